"""All that an end-to-end test needs: topics, a database, a simulator, a live reader, and services between them."""

import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from aiokafka import AIOKafkaProducer

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from penstock.postgres.database import IDLE_SECONDS
from tests.support.forked import Forked
from tests.support.live_reader import LiveReader, Received
from tests.support.pooler import any_pooler
from tests.support.request import CANARY
from tests.support.service import Service, own_environment
from tests.support.simulator import SERVICE, Simulator
from tests.support.stack import fresh_database, topic_factory
from tests.support.waiting import NeverCame

ROOT = Path(__file__).parents[2]
API_KEY = "sk-canary-8e21b7"
LANES = "[defaults]\nage_max_seconds = 0.5\nretry_min_seconds = 0.2\n"
SLOTS = 4
WAIT_SECONDS = 60.0
MIGRATE_SECONDS = 60.0
CHECK_SECONDS = 300.0
PRODUCE_BYTES = 512 * 1024
"""What is produced to a partition in one go arrives in one piece, up to so much."""

FAST = {
    "drain_seconds": 10,
    "intake_linger_seconds": 0.1,
    "janitor_interval_seconds": 1,
    "kafka_session_seconds": 6,
    "lease_seconds": 2,
    "poller_interval_max_seconds": 1,
    "poller_interval_seconds": 0.2,
    "provider_creates_per_hour": 10_000,
    "provider_timeout_seconds": 5,
    "publisher_file_gone_seconds": 1,
    "publisher_slots": SLOTS,
    "publisher_transaction_timeout_seconds": 10,
    "submitter_look_up_seconds": 1,
    "submitter_settle_seconds": 0,
}
"""Settings that let a test end soon, without the prefix."""


class NotClean(AssertionError):
    """The checker's report."""


@dataclass(slots=True)
class Bridge:
    """One end-to-end test's world. Made by `open_bridge`, or by the fixture `bridge`."""

    folder: Path
    kafka: EmbeddedKafka
    requests: str
    result_topic: str
    dead_letter_topic: str
    ledger: str
    dsn: str
    simulator: Simulator
    producer: AIOKafkaProducer
    reader: LiveReader
    lanes: Path
    pooled_dsn: str = ""
    """Where services reach the database, when that is through a pooler (`make integration POOLED=1`)."""
    more_requests: list[str] = field(default_factory=list)
    more_results: list[str] = field(default_factory=list)
    more_simulators: list[Simulator] = field(default_factory=list)
    """Other accounts'; the caller starts and ends them."""
    deployment: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:12]}")
    services: list[Service] = field(default_factory=list)
    defences_off: Sequence[str] = ()

    def environment(self, **overrides: object) -> dict[str, str]:
        """The service's settings: `lease_seconds=5` stands for PENSTOCK_LEASE_SECONDS."""
        settings: dict[str, object] = {
            **FAST,
            "deployment": self.deployment,
            "kafka_bootstrap_servers": self.kafka.bootstrap_servers,
            "kafka_dead_letter_topic": self.dead_letter_topic,
            "kafka_ledger_topic": self.ledger,
            "kafka_request_topics": ",".join([self.requests, *self.more_requests]),
            "kafka_result_topic": self.result_topic,
            "lanes_file": self.lanes,
            "postgres_dsn": self.pooled_dsn or self.dsn,
            "postgres_statement_cache": not self.pooled_dsn,
            "provider_api_key": API_KEY,
            "provider_base_url": self.simulator.base_url,
            "spool_folder": self.folder / "spool",
            **overrides,
        }
        return {f"PENSTOCK_{name.upper()}": str(value) for name, value in settings.items()}

    def service(
        self,
        *,
        stages: str = "",
        failpoints: str = "",
        altered: Sequence[str] = (),
        source: Path = SERVICE,
        **overrides: object,
    ) -> Service:
        """A replica, not yet started: enter it."""
        log = self.folder / f"service-{len(self.services)}.log"
        service = Service(
            log,
            self.environment(**overrides),
            stages=stages,
            failpoints=failpoints,
            defences_off=self.defences_off,
            altered=altered,
            source=source,
        )
        self.services.append(service)
        return service

    async def produce(
        self,
        lines: Iterable[Mapping[str, Any] | bytes | None],
        *,
        partition: int | None = None,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        topic: str = "",
        age_seconds: float = 0.0,
    ) -> list[tuple[int, int]]:
        """Send requests, or values as they are, in order and so old; returns partition and offset of each."""
        values = [json.dumps(each).encode() if isinstance(each, Mapping) else each for each in lines]
        topic = topic or self.requests
        written = int((time.time() - age_seconds) * 1000) if age_seconds else None
        options = {"key": key, "partition": partition, "headers": list(headers), "timestamp_ms": written}
        sent = [await self.producer.send(topic, value, **options) for value in values]
        return [(each.partition, each.offset) for each in await asyncio.gather(*sent)]

    async def results(self, count: int, timeout_seconds: float = WAIT_SECONDS) -> list[Received]:
        """All results that the live reader has, once they are so many at least."""
        return await self.received(self.result_topic, count, timeout_seconds)

    async def dead_letters(self, count: int, timeout_seconds: float = WAIT_SECONDS) -> list[Received]:
        """All dead letters that the live reader has, once they are so many at least."""
        return await self.received(self.dead_letter_topic, count, timeout_seconds)

    async def received(self, topic: str, count: int, timeout_seconds: float) -> list[Received]:
        """Wait for records; what the services said is in the error when they do not come."""
        try:
            return await self.reader.wait(topic, count, timeout_seconds)
        except NeverCame as late:
            said = "\n".join(f"{each.log.name}:\n{each.text()[-5000:]}" for each in self.services)
            raise NeverCame(f"{late}\n{said}") from None

    async def sql(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()

    async def check(self, **limits: object) -> dict[str, Any]:
        """Run the checker over everything; call it when all that was produced should have come out.

        Args:
            limits: further options of the checker, such as `extra_executions_allowed=3`.

        Raises:
            NotClean: with its report.
        """
        command = [sys.executable, "-m", "tests.checker", "--output", "json", *self.checker_arguments()]
        for name, value in limits.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        for each in await self.dump_metrics():
            command += ["--search", str(each)]
        answer, log = self.folder / "checker.json", self.folder / "checker.log"
        with answer.open("wb") as out, log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=out, stderr=errors, cwd=ROOT, env={"PYTHONPATH": str(ROOT / "service")}
            )
        async with asyncio.timeout(CHECK_SECONDS):
            code = await process.wait()
        text = answer.read_text()
        if code:
            raise NotClean(f"{text}\n{log.read_text()}")
        report: dict[str, Any] = json.loads(text)
        return report

    def checker_arguments(self) -> list[str]:
        """What the checker must know."""
        arguments = {
            "--bootstrap": self.kafka.bootstrap_servers,
            "--requests": ",".join([self.requests, *self.more_requests]),
            "--results": ",".join([self.result_topic, *self.more_results]),
            "--dead-letters": self.dead_letter_topic,
            "--ledger": self.ledger,
            "--seen": str(self.reader.seen),
        }
        given = [text for pair in arguments.items() for text in pair]
        for simulator in (self.simulator, *self.more_simulators):
            given += ["--journal", str(simulator.state / "journal.jsonl")]
        for canary in (CANARY, API_KEY):
            given += ["--canary", canary]
        for service in self.services:
            given += ["--search", str(service.log)]
        return given

    async def dump_metrics(self) -> list[Path]:
        """The metrics of the services that run, each in a file."""
        dumps = []
        for service in self.services:
            if service.process is not None and service.returncode is None:
                dump = service.log.with_suffix(".metrics")
                dump.write_text(await asyncio.to_thread(service.get, "/metrics"))
                dumps.append(dump)
        return dumps


@asynccontextmanager
async def open_bridge(
    kafka: EmbeddedKafka,
    postgres: EmbeddedPostgres,
    folder: Path,
    *,
    partitions: int = 3,
    lanes: str = LANES,
    result_configs: Mapping[str, str] | None = None,
    simulator: Mapping[str, Any] | None = None,
    defences_off: Sequence[str] = (),
    more_requests: int = 0,
    more_results: int = 0,
    reader: type[LiveReader] = LiveReader,
    template: str = "",
) -> AsyncIterator[Bridge]:
    """A bridge without a service yet; at its end every service is ended, and topics and database go.

    Args:
        kafka: the session's broker.
        postgres: the session's server.
        folder: takes logs, the spool, and the simulator's state.
        partitions: of the request and the result topic.
        lanes: the lanes file.
        result_configs: settings of the result topic.
        simulator: its options.
        defences_off: defences that services run without, see `tests.defences`.
        more_requests: request topics beside the first one, which the services consume too.
        more_results: result topics beside the first one, for a lanes file to name.
        reader: the live reader's class.
        template: a migrated database to copy, instead of migrating an empty one.
    """
    lanes_file = folder / "lanes.toml"
    lanes_file.write_text(lanes)
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(fresh_database(postgres, template or "template1"))
        pooled_dsn = await stack.enter_async_context(pooled(dsn, folder))
        migrating = None if template else asyncio.create_task(migrate(dsn, folder / "migrate.log"))
        if migrating is not None:
            stack.callback(migrating.cancel)
        create = await stack.enter_async_context(topic_factory(kafka))
        requests = await create("requests", partitions=partitions)
        results = await create("results", partitions=partitions, configs=result_configs)
        dead_letters = await create("dead-letters")
        other_requests = [await create("requests", partitions=partitions) for _ in range(more_requests)]
        other_results = [await create("results", partitions=partitions) for _ in range(more_results)]
        ledger = await create("ledger", partitions=SLOTS, configs={"cleanup.policy": "compact"})
        outputs = {results: partitions, dead_letters: 1, **dict.fromkeys(other_results, partitions)}
        bridge = Bridge(
            folder=folder,
            kafka=kafka,
            requests=requests,
            result_topic=results,
            dead_letter_topic=dead_letters,
            ledger=ledger,
            dsn=dsn,
            simulator=await stack.enter_async_context(Simulator(folder / "simulator", **(simulator or {}))),
            producer=await stack.enter_async_context(opened_producer(kafka)),
            reader=await stack.enter_async_context(reader(kafka.bootstrap_servers, outputs, folder / "seen.jsonl")),
            lanes=lanes_file,
            pooled_dsn=pooled_dsn,
            more_requests=other_requests,
            more_results=other_results,
            defences_off=defences_off,
        )
        stack.push_async_callback(kill_all, bridge.services)
        if migrating is not None:
            await migrating
        yield bridge


@asynccontextmanager
async def pooled(dsn: str, folder: Path) -> AsyncIterator[str]:
    """Where a database is reached through a pooler, when services shall use one; else nothing."""
    if not os.environ.get("POOLED"):
        yield ""
        return
    await set_idle_limit(dsn)
    async with any_pooler(dsn, folder / "pooler") as pooled_dsn:
        yield pooled_dsn


@asynccontextmanager
async def opened_producer(kafka: EmbeddedKafka) -> AsyncIterator[AIOKafkaProducer]:
    """A producer of requests."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers,
        enable_idempotence=True,
        max_request_size=4 << 20,
        max_batch_size=PRODUCE_BYTES,
        linger_ms=5,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def migrate(dsn: str, log: Path) -> None:
    """Bring the schema up, as an operator does."""
    process = Forked(["penstock", "migrate"], log, own_environment({"PENSTOCK_POSTGRES_DSN": dsn}))
    async with asyncio.timeout(MIGRATE_SECONDS):
        if await process.wait():
            raise RuntimeError(f"penstock migrate ended with {process.returncode}:\n{log.read_text()}")


async def set_idle_limit(dsn: str) -> None:
    """What an operator does who has a pooler: it takes no settings of a session from the service."""
    connection = await asyncpg.connect(dsn)
    try:
        limit = f"idle_in_transaction_session_timeout = '{IDLE_SECONDS:.0f}s'"
        await connection.execute(f'ALTER DATABASE "{urlsplit(dsn).path[1:]}" SET {limit}')
    finally:
        await connection.close()


async def kill_all(services: Iterable[Service]) -> None:
    """End what still runs."""
    for service in services:
        if service.process is not None:
            await service.kill()
