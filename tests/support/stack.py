"""The real Kafka and Postgres that integration tests run on: topics and databases of their own."""

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from penstock.embedded.server import EmbeddedServer

Server = TypeVar("Server", bound=EmbeddedServer)


class TopicFactory(Protocol):
    """What the fixture `topic` is: creates a topic and returns its name, which is unique."""

    async def __call__(
        self, prefix: str = "topic", *, partitions: int = 1, configs: Mapping[str, str] | None = None
    ) -> str: ...


@asynccontextmanager
async def running(server_class: type[Server]) -> AsyncIterator[Server]:
    """A server that runs on data which go when it does."""
    with tempfile.TemporaryDirectory(prefix="penstock-test-") as folder:
        server = server_class(Path(folder, server_class.name))
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


@asynccontextmanager
async def fresh_database(postgres: EmbeddedPostgres, template: str = "template1") -> AsyncIterator[str]:
    """The DSN of an empty database, or of a copy of another; dropped at the end whoever is still connected."""
    name = f"test_{uuid.uuid4().hex}"
    await execute(postgres, f"create database {name} template {template}")
    try:
        yield postgres.dsn.removesuffix("postgres") + name
    finally:
        await execute(postgres, f"drop database {name} with (force)")


async def execute(postgres: EmbeddedPostgres, statement: str) -> None:
    """Run one statement as the superuser, on a server that a test may have left dead."""
    await postgres.start()
    connection = await asyncpg.connect(postgres.dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def topic_factory(kafka: EmbeddedKafka) -> AsyncIterator[TopicFactory]:
    """Creates topics, and deletes them at the end."""
    await kafka.start()
    replicas = kafka.bootstrap_servers.count(",") + 1
    created: list[str] = []

    async def create(prefix: str = "topic", *, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
        name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        async with admin_client(kafka) as admin:
            answer = await admin.create_topics(
                [NewTopic(name, partitions, replicas, topic_configs=dict(configs or {}))]
            )
            assert [error for _, error, _ in answer.topic_errors] == [0], answer
            created.append(name)
            while not await has_leaders(admin, name):
                await asyncio.sleep(0.01)
        return name

    yield create
    await kafka.start()
    async with admin_client(kafka) as admin:
        await admin.delete_topics(created)


@asynccontextmanager
async def admin_client(kafka: EmbeddedKafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client for administration, closed at the end."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def has_leaders(admin: AIOKafkaAdminClient, topic: str) -> bool:
    """Whether the broker itself has heard of the topic and leads every partition of it."""
    [description] = await admin.describe_topics([topic])
    partitions = description["partitions"]
    return description["error_code"] == 0 and all(partition["leader"] >= 0 for partition in partitions)
