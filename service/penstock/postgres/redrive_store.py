"""What a redrive has sent: each of its Kafka transactions is announced before it is sent, and settled after."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.core.identity import new_id
from penstock.postgres.audit import note
from penstock.postgres.database import Database

Ends = dict[str, list[int]]
"""Where each partition of a topic ended, by topic."""


@dataclass(frozen=True, slots=True)
class Announced:
    """A transaction of which it is not known whether it was committed."""

    id: uuid.UUID
    ends: Ends
    """Where the topics that it writes to ended before: it lies behind."""


class RedriveStore:
    """The memory of redrives, so that no dead letter is sent twice."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def unsettled(self) -> list[Announced]:
        """Transactions that were announced and not settled."""
        return [Announced(row["id"], row["ends"]) for row in await self.database.fetch("unsettled_redrives")]

    async def done(self, topic_id: uuid.UUID, partition: int) -> set[int]:
        """The offsets of a partition's dead letters that were sent."""
        rows = await self.database.fetch("redriven_offsets", topic_id, partition)
        return {offset for row in rows for offset in row["offsets"]}

    async def announce(self, topic_id: uuid.UUID, partition: int, offsets: Sequence[int], ends: Ends) -> uuid.UUID:
        """Say what the next transaction will send, and where to look for it; returns its id."""
        async with self.database.transaction() as connection:
            redrive_id = new_id()
            await connection.execute("insert_redrive", redrive_id, topic_id, partition, list(offsets), ends)
            return redrive_id

    async def settle(self, redrive_id: uuid.UUID, target: str, *, sent: bool) -> None:
        """Remember that a transaction was committed, or forget it when it was not."""
        async with self.database.transaction() as connection:
            if not sent:
                await connection.execute("delete_redrive", redrive_id)
                return
            count = await connection.value("settle_redrive", redrive_id)
            await note(connection, "redrive", target, dead_letters=count, transaction=redrive_id.hex)

    async def forget(self, topic_id: uuid.UUID, partition: int, first: int) -> None:
        """Forget what the dead-letter topic itself has forgotten: all before its first offset."""
        async with self.database.transaction() as connection:
            await connection.execute("forget_redrives", topic_id, partition, first)
