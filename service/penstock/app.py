"""The composition root: settings in, stages out. The only place where parts are put together."""

import asyncio
import contextlib
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import structlog

from penstock import __version__
from penstock.core.errors import ConfigurationError
from penstock.core.gathering import Rules
from penstock.core.lane import LaneKey, Lanes
from penstock.core.request import RequestLimits
from penstock.http.server import HttpServer, application
from penstock.kafka.request_consumer import RequestConsumer
from penstock.kafka.topics import Cluster, TopicClient
from penstock.postgres.batch_row import ChunkReader
from penstock.postgres.census_store import CensusStore
from penstock.postgres.collector_store import CollectorStore
from penstock.postgres.database import Database
from penstock.postgres.deployment_store import DeploymentStore
from penstock.postgres.intake_store import IntakeStore
from penstock.postgres.janitor_store import JanitorStore
from penstock.postgres.lease_store import LeaseStore
from penstock.postgres.migrate import require_schema
from penstock.postgres.poller_store import PollerStore
from penstock.postgres.publisher_store import PublisherStore
from penstock.postgres.submitter_store import SubmitterStore
from penstock.postgres.window_store import WindowStore
from penstock.provider.client import ProviderClient
from penstock.settings import Settings
from penstock.spool import Spool
from penstock.stages.census import Census
from penstock.stages.collector import Collector
from penstock.stages.intake import Intake
from penstock.stages.janitor import Janitor
from penstock.stages.lease import LeaseKeeper
from penstock.stages.poller import Poller
from penstock.stages.publisher import Publisher
from penstock.stages.sealer import Sealer
from penstock.stages.slot import SlotTools
from penstock.stages.stage import Stage
from penstock.stages.submitter import Submitter
from penstock.stages.watchdog import Watchdog
from penstock.telemetry import metrics

log = structlog.get_logger()

STAGES = ("intake", "seal", "submit", "poll", "collect", "publish", "janitor")
"""What `--stages` takes. Collecting and publishing share the spool and go together."""

RECORD_BYTES = 1024 * 1024
"""Kafka's default `max.message.bytes`, where a topic's own cannot be read."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What the brokers say at start.

    Args:
        cluster: its id and the topics.
        record_bytes_max: the largest record of each topic that is written.
        retention_seconds: of each request topic that has a limit.
    """

    cluster: Cluster
    record_bytes_max: dict[str, int]
    retention_seconds: dict[str, float]


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
    lanes: Lanes = field(default_factory=Lanes)

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT, then drain; a second signal ends the process at once.

        Raises:
            ConfigurationError: something is set wrong; nothing was consumed.
            OSError, KafkaError, asyncpg.PostgresError: a part cannot be reached at start.
        """
        self.lanes = self.settings.read_lanes()
        self.handle_signals()
        async with AsyncExitStack() as stack:
            http = HttpServer(self.settings.http, application(self.not_live, self.not_ready, self.degraded))
            port = await http.start()
            stack.push_async_callback(http.stop)
            database = await stack.enter_async_context(opened(self.settings))
            await require_schema(database)
            bound = await self.bind(database)
            spool = Spool(self.settings.spool, self.replica)
            spool.open()
            stack.callback(spool.close)
            client = ProviderClient(self.settings.provider)
            stack.push_async_callback(client.close)
            keeper = LeaseKeeper(self.stop_keeper, LeaseStore(database, self.replica, self.settings.lease.seconds))
            parts = self.compose(database, bound, spool, client, keeper)
            metrics.build_info.labels(__version__, self.settings.deployment).set(1)
            log.info("service.started", replica=str(self.replica), stages=sorted(self.stages), port=port)
            self.started = True
            await self.run_stages(parts, keeper)
            log.info("service.stopped", replica=str(self.replica))

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
        halted = metrics.account_halted.labels(self.settings.provider.account)._value.get()  # noqa: SLF001 - no public read
        return {"provider": "the account is refused"} if halted else {}

    def lane_label(self, key: LaneKey) -> str:
        """A lane's bounded name for metrics: as configured, or `other`."""
        if key.dead:
            return "dead-letters"
        return self.lanes.policy(key).name or "other"

    async def bind(self, database: Database) -> Bound:
        """Hold the deployment against the cluster and topics it was first started with (B4).

        Raises:
            ConfigurationError: topics are missing or set wrong, or the database belongs elsewhere.
        """
        kafka = self.settings.kafka
        written = {*self.lanes.topics(kafka.result_topic), kafka.dead_letter_topic}
        wanted = {*kafka.request_topics, *written, kafka.ledger_topic}
        async with TopicClient(kafka, "penstock") as topics:
            cluster = await topics.describe(wanted)
            if missing := sorted(wanted - cluster.topics.keys()):
                raise ConfigurationError(f"topics are missing: {', '.join(missing)}; penstock check --create-topics")
            configs = {topic: await topics.configs(topic) for topic in wanted}
            ledger = cluster.topics[kafka.ledger_topic]
            if configs[ledger.name].get("cleanup.policy") != "compact":
                raise ConfigurationError(f"{ledger.name} must have cleanup.policy=compact and nothing else")
        if ledger.partitions < self.settings.publisher.slots:
            raise ConfigurationError(
                f"{ledger.name} has {ledger.partitions} partitions; PENSTOCK_PUBLISHER_SLOTS needs "
                f"{self.settings.publisher.slots}"
            )
        await DeploymentStore(database).bind(self.settings.deployment, cluster.id, ledger.id, ledger.partitions)
        return Bound(
            cluster,
            {topic: int(configs[topic].get("max.message.bytes") or RECORD_BYTES) for topic in written},
            {
                topic: milliseconds / 1000
                for topic in kafka.request_topics
                if (milliseconds := int(configs[topic].get("retention.ms") or -1)) > 0
            },
        )

    def compose(
        self,
        database: Database,
        bound: Bound,
        spool: Spool,
        client: ProviderClient,
        keeper: LeaseKeeper,
    ) -> list[Stage]:
        """Every stage that runs here, with just what it needs."""
        settings, cluster = self.settings, bound.cluster
        reader = ChunkReader(database)
        census = Census(
            self.drain,
            CensusStore(database),
            keeper,
            generation=settings.generation,
            lanes=self.lanes,
            lane_label=self.lane_label,
        )
        makers: dict[str, Callable[[], Stage]] = {
            "intake": lambda: Intake(
                self.drain,
                settings.intake,
                settings.kafka.start_at,
                self.rules(),
                IntakeStore(database, cluster.id),
                bound.retention_seconds,
                lambda: RequestConsumer(settings.kafka, settings.group, self.replica),
                self.lane_label,
            ),
            "seal": lambda: Sealer(
                self.drain,
                WindowStore(database),
                keeper,
                census,
                self.lanes,
                slots=settings.publisher.slots,
                creates_per_hour=settings.provider.creates_per_hour,
                backlog_limits={
                    topic: self.lanes.backlogs.get(topic, settings.intake.backlog_bytes_max)
                    for topic in settings.kafka.request_topics
                },
                lane_label=self.lane_label,
            ),
            "submit": lambda: Submitter(
                self.drain,
                settings.submitter,
                settings.provider,
                SubmitterStore(database, self.replica, settings.lease.seconds, settings.publisher.slots),
                reader,
                client,
                keeper,
                census,
                spool,
                self.lanes,
                deployment=settings.deployment,
                lane_label=self.lane_label,
            ),
            "poll": lambda: Poller(
                self.drain,
                settings.poller,
                settings.provider.account,
                PollerStore(database),
                client,
                keeper,
                self.lane_label,
            ),
            "publish": lambda: Publisher(
                self.drain,
                keeper,
                SlotTools(
                    settings.kafka,
                    settings.publisher,
                    settings.janitor.file_grace_seconds,
                    cluster.topics[settings.kafka.ledger_topic].id,
                    PublisherStore(database),
                    reader,
                    Collector(
                        CollectorStore(database, settings.publisher.slots),
                        reader,
                        client,
                        spool,
                        self.lanes,
                        self.lane_label,
                        settings.publisher.file_gone_seconds,
                    ),
                    bound.record_bytes_max,
                ),
                deployment=settings.deployment,
                replica=self.replica,
            ),
            "janitor": lambda: Janitor(
                self.drain,
                settings.janitor,
                JanitorStore(database),
                client,
                keeper,
                deployment=settings.deployment,
                history_seconds=settings.history_days * 86400,
            ),
        }
        return [census, Watchdog(self.drain), *(make() for name, make in makers.items() if name in self.stages)]

    def rules(self) -> Rules:
        """What intake validates against."""
        kafka = self.settings.kafka
        return Rules(
            account=self.settings.provider.account,
            lanes=self.lanes,
            limits=RequestLimits(self.settings.intake.body_bytes_max, self.lanes.defaults.inputs_max),
            result_topic=kafka.result_topic,
            dead_letter_topic=kafka.dead_letter_topic,
            result_topics=self.lanes.topics(kafka.result_topic),
        )


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """The database, open."""
    database = Database(settings.postgres, f"penstock-{settings.deployment}")
    await database.open()
    try:
        yield database
    finally:
        await database.close()


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
