"""What benchmarks run on: a broker and a database of their own, tuned for throughput, and the simulator."""

import asyncio
import os
import resource
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from penstock.accounts import read_accounts
from penstock.app import STAGES
from penstock.composition import Composition, bind
from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from penstock.postgres.database import Database, opened
from penstock.postgres.lease_store import LeaseStore
from penstock.postgres.migrate import migrate
from penstock.provider.client import ProviderClient
from penstock.provider.clients import ProviderClients
from penstock.settings import load_settings
from penstock.spool import Spool
from penstock.stages.lease import LeaseKeeper
from penstock.stages.stage import Stage
from tests.support.simulator import Simulator
from tests.support.stack import has_leaders

PARTITIONS = 6
SLOTS = 4


@dataclass(frozen=True, slots=True)
class Ground:
    """The servers."""

    kafka: EmbeddedKafka
    postgres: EmbeddedPostgres
    simulator: Simulator
    folder: Path

    async def topic(self, prefix: str, partitions: int = PARTITIONS, **configs: str) -> str:
        """A new topic."""
        name = f"{prefix}-{uuid.uuid4().hex[:8]}"
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap_servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
            while not await has_leaders(admin, name):
                await asyncio.sleep(0.05)
        finally:
            await admin.close()
        return name

    @staticmethod
    def lanes(environment: Mapping[str, str], text: str) -> None:
        """Replace a deployment's lanes file."""
        Path(environment["PENSTOCK_LANES_FILE"]).write_text(text)

    async def environment(self, request_topic: str) -> dict[str, str]:
        """The settings of a new deployment, with topics and a database of its own."""
        number = uuid.uuid4().hex[:8]
        connection = await asyncpg.connect(self.postgres.dsn)
        await connection.execute(f"create database bench_{number}")
        await connection.close()
        lanes = self.folder / f"lanes-{number}.toml"
        lanes.write_text("[defaults]\nage_max_seconds = 2\nenqueued_tokens_max = 1000000000\n")
        return {
            "PENSTOCK_DEPLOYMENT": f"bench-{number}",
            "PENSTOCK_LANES_FILE": str(lanes),
            "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "PENSTOCK_KAFKA_REQUEST_TOPICS": request_topic,
            "PENSTOCK_KAFKA_RESULT_TOPIC": await self.topic("results"),
            "PENSTOCK_KAFKA_DEAD_LETTER_TOPIC": await self.topic("dead-letters", 1),
            "PENSTOCK_KAFKA_LEDGER_TOPIC": await self.topic("ledger", SLOTS, **{"cleanup.policy": "compact"}),
            "PENSTOCK_POSTGRES_DSN": self.postgres.dsn.removesuffix("postgres") + f"bench_{number}",
            "PENSTOCK_PROVIDER_BASE_URL": self.simulator.base_url,
            "PENSTOCK_PROVIDER_API_KEY": "bench",
            "PENSTOCK_PUBLISHER_SLOTS": str(SLOTS),
            "PENSTOCK_POLLER_INTERVAL_SECONDS": "0.5",
            "PENSTOCK_SPOOL_FOLDER": str(self.folder / "spool"),
            "PENSTOCK_INTAKE_LINGER_SECONDS": "0.2",  # only the last gathering of a full topic waits for it
            "PENSTOCK_LOG_LEVEL": "warning",
        }


@asynccontextmanager
async def ground(folder: Path) -> AsyncIterator[Ground]:
    """Start everything; Kafka with the heap and compiler that throughput wants."""
    async with AsyncExitStack() as stack:
        kafka = EmbeddedKafka(folder / "kafka", heap_mib=1024, fast_start=False)
        postgres = EmbeddedPostgres(folder / "postgres")
        for server in (kafka, postgres):
            stack.push_async_callback(server.stop)
            await server.start()
        simulator = await stack.enter_async_context(Simulator(folder / "simulator"))
        yield Ground(kafka, postgres, simulator, folder)


@dataclass(slots=True)
class Parts:
    """The stages of a replica that does not run by itself, by name, and what else they need."""

    composition: Composition
    database: Database
    keeper: LeaseKeeper
    stages: dict[str, Stage]


@asynccontextmanager
async def parts(environment: dict[str, str]) -> AsyncIterator[Parts]:
    """The service's own composition, to run stage by stage in this process; leases are kept."""
    with patch.dict(os.environ, environment):
        settings = load_settings()
    lanes, replica, stop = settings.read_lanes(), uuid.uuid4(), asyncio.Event()
    async with opened(settings) as database:
        await migrate(database)
        bound = await bind(settings, lanes, database)
        spool = Spool(settings.spool, replica)
        spool.open()
        accounts = read_accounts(settings, lanes)
        clients = ProviderClients({name: ProviderClient(each.provider) for name, each in accounts.items()})
        keeper = LeaseKeeper(stop, LeaseStore(database, replica, settings.lease.seconds))
        composition = Composition(
            *(settings, lanes, accounts, bound, replica, asyncio.Event()),
            *(database, spool, clients, keeper, frozenset(STAGES)),
        )
        stages = composition.stages()
        keeping = asyncio.create_task(keeper.run())
        try:
            yield Parts(composition, database, keeper, {stage.name: stage for stage in stages})
        finally:
            stop.set()
            await keeping
            await clients.close()
            spool.close()


@asynccontextmanager
async def running(stages: Iterable[Stage]) -> AsyncIterator[None]:
    """Stages at work, until the block ends."""
    tasks = [asyncio.create_task(stage.run()) for stage in stages]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Reading:
    """A stretch of wall clock and of this process's CPU, for a number of records."""

    records: int
    wall_seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Records a second."""
        return self.records / self.wall_seconds

    @property
    def cpu_micros(self) -> float:
        """Microseconds of CPU for each record."""
        return self.cpu_seconds / self.records * 1e6


class Watch:
    """A stopwatch of wall and CPU time."""

    def __init__(self) -> None:
        self.wall = time.perf_counter()
        self.cpu = cpu_seconds()

    def read(self, records: int) -> Reading:
        """What has passed."""
        return Reading(records, time.perf_counter() - self.wall, cpu_seconds() - self.cpu)


def cpu_seconds() -> float:
    """CPU time of this process, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def machine() -> str:
    """The machine, for the report."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().split("\n")
            if "model name" in line
        ),
        "unknown processor",
    )
    return f"{os.cpu_count()} cores, {model}"
