"""One replica's life: start, run, drain, end."""

import asyncio
import contextlib
import signal
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import structlog
from prometheus_client import REGISTRY
from starlette.applications import Starlette

from penstock import __version__
from penstock.accounts import Account
from penstock.composition import Composition, bind
from penstock.configuration import read_configuration
from penstock.core.errors import ConfigurationError
from penstock.http.server import HttpServer, application
from penstock.kafka.closing import unawaited
from penstock.postgres.database import Database, opened
from penstock.postgres.lease_store import LeaseStore
from penstock.postgres.migrate import require_schema
from penstock.provider.client import ProviderClient
from penstock.provider.clients import ProviderClients
from penstock.settings import Settings
from penstock.spool import Spool
from penstock.stages.lease import LeaseKeeper
from penstock.stages.stage import Stage
from penstock.telemetry import metrics

log = structlog.get_logger()

WEBHOOK_CONNECTIONS_MAX = 64
"""Anybody may reach the receiver: so many connections at a time, each read for seconds and bounded in bytes."""

STAGES = ("intake", "seal", "submit", "poll", "collect", "publish", "janitor")
"""What `--stages` takes. Collecting and publishing share the spool and go together."""


@dataclass(slots=True)
class Service:
    """One replica.

    Args:
        settings: everything.
        stages: which stages run here; all by default.
    """

    settings: Settings
    stages: frozenset[str] = frozenset(STAGES)
    replica: uuid.UUID = field(default_factory=uuid.uuid4)
    drain: asyncio.Event = field(default_factory=asyncio.Event)
    stop_keeper: asyncio.Event = field(default_factory=asyncio.Event)
    started: bool = False
    accounts: Mapping[str, Account] = field(default_factory=dict)
    database: Database | None = None

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT, then drain; a second signal ends the process at once.

        Raises:
            ConfigurationError: something is set wrong; nothing was consumed.
            OSError, KafkaError, asyncpg.PostgresError: a part cannot be reached at start.
        """
        configuration = read_configuration(self.settings, self.stages)
        lanes, self.accounts = configuration.lanes, configuration.accounts
        self.handle_signals()
        asyncio.get_running_loop().set_exception_handler(unawaited)
        async with AsyncExitStack() as stack:
            pages = application(self.not_live, self.not_ready, self.degraded)
            http = HttpServer(self.settings.http.host, self.settings.http.port, pages)
            port = await http.start()
            stack.push_async_callback(http.stop)
            database = self.database = await stack.enter_async_context(opened(self.settings))
            await require_schema(database)
            bound = await bind(self.settings, lanes, database)
            spool = Spool(self.settings.spool, self.replica)
            spool.open()
            stack.callback(spool.close)
            clients = ProviderClients({name: ProviderClient(each.provider) for name, each in self.accounts.items()})
            stack.push_async_callback(clients.close)
            keeper = LeaseKeeper(self.stop_keeper, LeaseStore(database, self.replica, self.settings.lease.seconds))
            composition = Composition(
                self.settings,
                lanes,
                self.accounts,
                bound,
                self.replica,
                self.drain,
                database,
                spool,
                clients,
                keeper,
                self.stages,
            )
            parts = composition.stages()
            await self.receive_webhooks(composition.webhooks(), stack)
            metrics.build_info.labels(__version__, self.settings.deployment).set(1)
            log.info("service.started", replica=str(self.replica), stages=sorted(self.stages), port=port)
            self.started = True
            await self.run_stages(parts, keeper)
            log.info("service.stopped", replica=str(self.replica))

    async def receive_webhooks(self, app: Starlette, stack: AsyncExitStack) -> None:
        """Listen for webhooks, if there is a port for them."""
        settings = self.settings.webhook
        if settings.port is None:
            return
        for account in self.accounts.values():
            if account.webhook is not None:
                account.webhook.read_secret()  # what is missing is told now
        server = HttpServer(settings.host, settings.port, app, WEBHOOK_CONNECTIONS_MAX, section="webhook")
        log.info("webhooks.received", port=await server.start())
        stack.push_async_callback(server.stop)

    async def run_stages(self, parts: Sequence[Stage], keeper: LeaseKeeper) -> None:
        """Run the stages to the end of the drain; leases are renewed until the last of them has stopped."""
        keeping = asyncio.create_task(keeper.run())
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part.run(), name=part.name) for part in parts]
                group.create_task(self.end_drain(tasks))
        finally:
            self.stop_keeper.set()
            with contextlib.suppress(Exception):
                await keeping
            await asyncio.gather(
                *(keeper.release(each) for each in list(keeper.leases.values())), return_exceptions=True
            )

    async def end_drain(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Once the drain has begun, give the stages their time and then cancel what is left."""
        drained = asyncio.create_task(self.drain.wait())
        await asyncio.wait([drained, *tasks], return_when=asyncio.FIRST_COMPLETED)
        _, late = await asyncio.wait(tasks, timeout=self.settings.drain_seconds)
        drained.cancel()
        for task in late:
            log.warning("stage.cancelled", stage=task.get_name())
            task.cancel()

    def handle_signals(self) -> None:
        """The first SIGTERM or SIGINT drains; the next one has its usual effect."""
        loop = asyncio.get_running_loop()

        def begin_drain(number: int) -> None:
            log.info("drain.started", signal=signal.Signals(number).name)
            self.drain.set()
            for each in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(each)

        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, begin_drain, each)

    def not_live(self) -> Mapping[str, str]:
        """The loop answers, so the process lives."""
        return {}

    def not_ready(self) -> Mapping[str, str]:
        """Not started, or on the way out."""
        if self.drain.is_set():
            return {"service": "draining"}
        return {} if self.started else {"service": "starting"}

    def degraded(self) -> Mapping[str, str]:
        """What operators should look at; the service goes on."""
        halted = {
            sample.labels["account"]
            for metric in metrics.account_halted.collect()
            for sample in metric.samples
            if sample.value
        }
        away = [
            account
            for account in self.accounts
            if REGISTRY.get_sample_value("penstock_provider_away", {"account": account})
        ]
        found = {f"account {account}": "it does not answer" for account in away}
        if self.database is not None and (postgres := self.database.away):
            found["postgres"] = f"no connection since {postgres.since:%Y-%m-%d %H:%M:%S} UTC: {postgres.reason}"
        if metrics.data_lost._value.get():  # noqa: SLF001 - no public read
            found["postgres"] = "it lost data: penstock resume restored"
        return found | {f"account {account}": "it is refused" for account in sorted(halted)}


def parse_stages(text: str) -> frozenset[str]:
    """The stages of `--stages`.

    Raises:
        ConfigurationError: an unknown name, or collect without publish.
    """
    chosen = frozenset(filter(None, (name.strip() for name in text.split(","))))
    if unknown := chosen - set(STAGES):
        raise ConfigurationError(f"--stages: {min(unknown)!r} is unknown; it takes {', '.join(STAGES)}")
    if ("collect" in chosen) != ("publish" in chosen):
        raise ConfigurationError("--stages: collect and publish share the spool and go together")
    return chosen or frozenset(STAGES)
