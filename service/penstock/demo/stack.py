"""Everything that the demonstration runs on: embedded, unless it is told to use servers of the user's own."""

import asyncio
import secrets
import shlex
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg

from penstock.core.errors import ConfigurationError
from penstock.demo.environment import Environment
from penstock.demo.preview import OWN_KAFKA, OWN_POSTGRES, OWN_PROVIDER
from penstock.demo.process import ServiceProcess, SimulatorProcess
from penstock.demo.storm import Storm
from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from penstock.embedded.server import EmbeddedServer
from penstock.kafka.layout import create_missing, wanted_topics
from penstock.kafka.topics import Cluster, TopicClient
from penstock.postgres.database import Database, opened
from penstock.postgres.migrate import migrate
from penstock.settings import PostgresSettings, Settings, load_settings
from penstock.variables import PREFIX

PARTITIONS = 4
SLOTS = 8
LANES = """\
# Small windows: some seal because they are full, some because they are old; what fails is tried again soon.
[defaults]
age_max_seconds = 4
enqueued_tokens_max = 20_000_000
retry_min_seconds = 2

[[lane]]
model = "gpt-4o-mini"
name = "labels"
requests_max = 2000

[[lane]]
model = "text-embedding-3-small"
name = "vectors"
requests_max = 1500
"""

STORM_LANES = """\
# Windows so small that there is a batch for every kind of fault; what fails is tried again at once.
[defaults]
age_max_seconds = 2
attempts_max = 8
enqueued_tokens_max = 20_000_000
requests_max = 300
retry_max_seconds = 2
retry_min_seconds = 0.5
"""
IMPATIENT: dict[str, dict[str, object]] = {
    "poller": {"stuck_grace_seconds": 0, "cancel_grace_seconds": 3},
    "provider": {"timeout_seconds": 4},
    "publisher": {"file_gone_seconds": 5},
    "submitter": {"concurrency": 4, "look_up_seconds": 1, "settle_seconds": 2},
}
"""What takes minutes and hours in earnest takes seconds in a storm."""

Overrides = dict[str, dict[str, object]]
"""Settings by section; None takes one out of the environment."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs.

    Attributes:
        settings: those of the service.
        exports: the same, as variables for people; of the user's own secrets only how to name them.
        cluster: the broker's cluster and topics.
        database: open.
        service: the process.
        simulator: the process, or None when the provider is the user's own.
        processes: all that were started.
    """

    settings: Settings
    exports: Mapping[str, str]
    cluster: Cluster
    database: Database
    service: ServiceProcess
    simulator: SimulatorProcess | None
    processes: Sequence[EmbeddedServer]


@asynccontextmanager
async def running(folder: Path, say: Say, environment: Environment, storm: Storm | None = None) -> AsyncIterator[Stack]:
    """Start everything; at the end nothing of it is left.

    Args:
        folder: takes all data; the caller removes it.
        say: takes a sentence about each step.
        environment: names servers to use instead of embedded ones, if it counts.
        storm: what the simulator does wrong; its windows are small, so that there are batches for every fault.

    Raises:
        ConfigurationError: there is a storm, and no simulator to make it.
        ServerError: a process did not start; the message ends with its log.
    """
    async with AsyncExitStack() as stack:
        overrides, servers = await start_servers(folder, stack, say, environment, storm)
        await prepare_postgres(settings_of(overrides, environment).postgres, overrides, stack)
        settings = settings_of(overrides, environment)
        lasting = environment.names(*OWN_KAFKA)
        cluster, _ = await asyncio.gather(make_topics(settings, stack, lasting=lasting), bring_up_schema(settings))
        service = ServiceProcess(folder / "service", child_environment(overrides, environment))
        await started(service, stack)
        say(f"The service is ready: {service.url}/metrics")
        database = await stack.enter_async_context(opened(settings))
        simulator = next((each for each in servers if isinstance(each, SimulatorProcess)), None)
        yield Stack(
            settings, exports(overrides, environment), cluster, database, service, simulator, [*servers, service]
        )


async def start_servers(
    folder: Path, stack: AsyncExitStack, say: Say, environment: Environment, storm: Storm | None
) -> tuple[Overrides, list[EmbeddedServer]]:
    """Start what the environment does not name, all at once; returns the settings that lead there."""
    if storm and environment.names(*OWN_PROVIDER):
        raise ConfigurationError("--faults takes the simulator: unset PENSTOCK_PROVIDER_BASE_URL")
    name = f"demo-{secrets.token_hex(4)}"
    topics = {f"{kind}_topic": f"{name}.{kind.replace('_', '-')}s" for kind in ("result", "dead_letter")}
    lanes = folder / "lanes.toml"
    lanes.write_text(STORM_LANES if storm else LANES)
    overrides: Overrides = {
        "": {"deployment": name, "lanes_file": str(lanes), "drain_seconds": 5},
        "kafka": {
            "request_topics": f"{name}.requests",
            "ledger_topic": f"{name}.ledger",
            "result_compression": "gzip",  # every client reads it
            **topics,
        },
        "spool": {"folder": str(folder / "spool")},
        "intake": {"linger_seconds": 0.5},
        "publisher": {"slots": SLOTS},
        "log": {"format": "json", "level": "info"},
    }
    kafka = None if environment.names(*OWN_KAFKA) else EmbeddedKafka(folder / "kafka")
    postgres = None if environment.names(*OWN_POSTGRES) else EmbeddedPostgres(folder / "postgres")
    simulator = None if environment.names(*OWN_PROVIDER) else SimulatorProcess(folder / "simulator", storm)
    servers: list[EmbeddedServer] = [each for each in (kafka, postgres, simulator) if each is not None]
    async with asyncio.TaskGroup() as group:
        for server in servers:
            say(f"{server.name} starts")
            group.create_task(started(server, stack))
    if kafka:
        overrides["kafka"]["bootstrap_servers"] = kafka.bootstrap_servers
        overrides["kafka"]["security_protocol"] = "PLAINTEXT"
    if postgres:
        overrides["postgres"] = {"dsn": postgres.dsn, "dsn_file": None, "password_file": None}
    if simulator:
        overrides["provider"] = {"base_url": simulator.base_url, "api_key": "sk-demo", "api_key_file": None}
        overrides["poller"] = {"interval_seconds": 0.5, "interval_max_seconds": 1}
    if storm:
        for section, impatient in IMPATIENT.items():
            overrides[section] = {**overrides.get(section, {}), **impatient}
    return overrides, servers


async def started(server: EmbeddedServer, stack: AsyncExitStack) -> None:
    """Start a process that ends with the stack."""
    stack.push_async_callback(server.stop)
    await server.start()


async def prepare_postgres(settings: PostgresSettings, overrides: Overrides, stack: AsyncExitStack) -> None:
    """On the user's own server, stay in a schema that is dropped at the end."""
    if "postgres" in overrides:
        return
    schema = str(overrides[""]["deployment"]).replace("-", "_")
    dsn = settings.read_dsn()
    password = settings.password_file.read_text().strip() if settings.password_file else None

    async def execute(statement: str) -> None:
        connection = await asyncpg.connect(dsn, password=password)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    await execute(f"CREATE SCHEMA {schema}")
    stack.push_async_callback(execute, f"DROP SCHEMA {schema} CASCADE")
    parts = urlsplit(dsn)
    query = urlencode([*parse_qsl(parts.query), ("search_path", schema)])
    overrides["postgres"] = {"dsn": parts._replace(query=query).geturl(), "dsn_file": None}


async def make_topics(settings: Settings, stack: AsyncExitStack, *, lasting: bool) -> Cluster:
    """Create the topics; on a broker that outlasts the demonstration they are deleted at the end."""
    wanted = wanted_topics(settings.kafka, settings.read_lanes(), settings.publisher.slots)
    names = [each.name for each in wanted]

    async def remove() -> None:
        async with TopicClient(settings.kafka, "penstock-demo") as client:
            await client.admin.delete_topics(names)

    async with TopicClient(settings.kafka, "penstock-demo") as client:
        await create_missing(client, wanted, partitions=PARTITIONS)
        if lasting:
            stack.push_async_callback(remove)
        return await client.describe(names)


async def bring_up_schema(settings: Settings) -> None:
    """As `penstock migrate` does."""
    async with opened(settings) as database:
        await migrate(database)


def settings_of(overrides: Overrides, environment: Environment) -> Settings:
    """The environment's settings with the overrides above them."""
    sections = {section: values for section, values in overrides.items() if section}
    return load_settings(environment.settings, **overrides[""], **sections)


def variables(overrides: Overrides) -> dict[str, str]:
    """The overrides as environment variables."""
    return {
        variable(section, name): str(value)
        for section, values in overrides.items()
        for name, value in values.items()
        if value is not None
    }


def variable(section: str, name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + "_".join(filter(None, (section, name))).upper()


def exports(overrides: Overrides, environment: Environment) -> dict[str, str]:
    """The variables as a shell takes them, quoted."""
    found = {name: shlex.quote(value) for name, value in variables(overrides).items()}
    if environment.names(*OWN_POSTGRES):
        query = urlsplit(str(overrides["postgres"]["dsn"])).query
        found[PREFIX + "POSTGRES_DSN"] = f"'YOUR-DSN?{query.rpartition('&')[2]}'"
    return found


def child_environment(overrides: Overrides, environment: Environment) -> dict[str, str]:
    """What counts of this process' environment, with the overrides, and without what they take out."""
    out = {variable(section, name) for section, values in overrides.items() for name in values}
    kept = {name: value for name, value in environment.inherited.items() if name not in out}
    return {**kept, **variables(overrides)}
