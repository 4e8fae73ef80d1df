"""One Kafka and one Postgres for the whole session, started when the first test asks for them."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from penstock.embedded import server as embedded
from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import Bridge, open_bridge
from tests.support.stack import TopicFactory, fresh_database, running, topic_factory

settings.register_profile("penstock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("penstock")  # how long an example takes says nothing on a machine that runs other tests too

# Between the choice of a port and its use nobody holds it: each of the processes that run tests has ports of its own.
NUMBER, PROCESSES = (os.environ.get(f"PYTEST_XDIST_WORKER{each}", "") for each in ("", "_COUNT"))
embedded.PORTS = embedded.PORTS[int(NUMBER.removeprefix("gw") or 0) :: int(PROCESSES or 1)]

pytest_plugins = ["tests.defences.plugin", "tests.outcomes.plugin"]


@pytest.fixture(scope="session")
async def kafka() -> AsyncIterator[EmbeddedKafka]:
    async with running(EmbeddedKafka) as server:
        yield server


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[EmbeddedPostgres]:
    async with running(EmbeddedPostgres) as server:
        yield server


@pytest.fixture
async def topic(kafka: EmbeddedKafka) -> AsyncIterator[TopicFactory]:
    """`await topic("requests", partitions=3, configs={...})` creates a topic and returns its unique name."""
    async with topic_factory(kafka) as create:
        yield create


@pytest.fixture
async def database(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The DSN of a fresh, empty database."""
    async with fresh_database(postgres) as dsn:
        yield dsn


@pytest.fixture
async def bridge(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path, defences_off: tuple[str, ...]
) -> AsyncIterator[Bridge]:
    """Topics, a migrated database, a simulator and a live reader: only services are missing."""
    async with open_bridge(kafka, postgres, tmp_path, defences_off=defences_off) as opened:
        yield opened
