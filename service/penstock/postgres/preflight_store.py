"""What `penstock check` asks the database; nothing here writes."""

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from penstock.postgres.database import Database


class Server(NamedTuple):
    """The database server, as far as the service depends on it."""

    major: int
    version: str
    in_recovery: bool
    synchronous_commit: str
    fsync: str
    connections: int
    """That the server gives to ordinary roles."""


class Binding(NamedTuple):
    """What a database is bound to since its first start (B4)."""

    deployment: str
    kafka_cluster_id: str
    ledger_topic_id: uuid.UUID


class PreflightStore:
    """Reads of a database that may not be migrated yet."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def server(self) -> Server:
        """Version and settings that durability hangs on."""
        (row,) = await self.database.fetch("server_facts")
        return Server(*row)

    async def processes(self) -> int:
        """How many run now; the schema must be there."""
        return int((await self.database.fetch("running_processes"))[0][0])

    async def bindings(self) -> list[Binding]:
        """The deployments that the database serves; the schema must be there."""
        rows = await self.database.fetch("bound_deployments")
        return [Binding(row["id"], row["kafka_cluster_id"], row["ledger_topic_id"]) for row in rows]

    async def without_epoch(self, kafka_cluster_id: str, topics: Sequence[str]) -> int:
        """How many positions of request topics have no leader epoch; the schema must be there."""
        return int((await self.database.fetch("count_without_epoch", kafka_cluster_id, list(topics)))[0][0])
