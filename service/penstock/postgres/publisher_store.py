"""What the publisher reads and writes, guarded by the slot's lease epoch (P5)."""

import uuid
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from penstock.core.answered import Answered
from penstock.core.batch import BatchState
from penstock.postgres.batch_row import lock_batch
from penstock.postgres.database import Database, Held
from penstock.postgres.intake_store import read_answered
from penstock.telemetry.failpoint import failpoint


class Known(NamedTuple):
    """What Postgres knows of a batch that the ledger names."""

    state: BatchState
    decision_id: uuid.UUID | None


class PublisherStore:
    """Slots, the batches that belong to them, and marks."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @failpoint("publisher.slots")
    async def slots_with_work(self, ledger_grace_seconds: float) -> list[int]:
        """Every slot that has unpublished batches or ledger keys to clear, longest waiting first (P7)."""
        rows = await self.database.fetch("slots_with_work", ledger_grace_seconds)
        return list(dict.fromkeys(row["slot"] for row in rows))

    @failpoint("publisher.batches")
    async def batches(self, lease: Held, slot: int) -> list[uuid.UUID]:
        """The slot's unpublished batches, read while the lease epoch is proven ours (P1)."""
        async with self.database.transaction(lease) as connection:
            return [row["id"] for row in await connection.fetch("slot_batches", slot)]

    @failpoint("publisher.known")
    async def known(
        self, lease: Held | None, batch_ids: Iterable[uuid.UUID]
    ) -> tuple[dict[uuid.UUID, Known], Answered]:
        """What Postgres knows of the batches that the ledger names (P6), and what is answered that it had lost."""
        async with self.database.transaction(lease) as connection:
            rows = await connection.fetch("batches_of_ledger", list(batch_ids))
            found = {row["id"]: Known(BatchState(row["state"]), row["decision_id"]) for row in rows}
            return found, await read_answered(connection)

    @failpoint("publisher.expected")
    async def expected(self, lease: Held, slot: int, grace_seconds: float) -> dict[uuid.UUID, int]:
        """The positions that Postgres saw committed for the slot's batches; the ledger may not be behind them (P6).

        Batches whose keys may have been cleared by now are left out.
        """
        async with self.database.transaction(lease) as connection:
            rows = await connection.fetch("ledger_expected", slot, grace_seconds)
            return {row["id"]: row["next_position"] for row in rows}

    @failpoint("publisher.record")
    async def record(self, lease: Held, batch_id: uuid.UUID, next_position: int) -> None:
        """Remember a position seen committed."""
        async with self.database.transaction(lease) as connection:
            await connection.execute("record_position", batch_id, next_position)

    @failpoint("publisher.mark")
    async def mark(self, lease: Held, batch_id: uuid.UUID, position: int, *, keep_files: bool) -> None:
        """Mark a batch published, and close the chunks that no open batch needs.

        Args:
            lease: of the slot.
            batch_id: the batch.
            position: up to where the ledger says it is published; 0 when it had nothing to publish.
            keep_files: a dead letter names its output file, which is kept until it expires by itself (P8).
        """
        async with self.database.transaction(lease) as connection:
            await lock_batch(connection, batch_id, BatchState.DECIDED)
            await connection.execute("move_to_published", batch_id, keep_files, position)
            await connection.fetch("lock_chunks", batch_id)
            await connection.execute("close_chunks", batch_id)

    @failpoint("publisher.park")
    async def park(self, lease: Held, batch_id: uuid.UUID, reason: str) -> None:
        """Set a batch aside whose topic refuses, so that the slot goes on (P8)."""
        async with self.database.transaction(lease) as connection:
            await connection.execute("park_batch", batch_id, reason)

    @failpoint("publisher.ledger_keys_due")
    async def ledger_keys_due(self, lease: Held, slot: int, grace_seconds: float) -> list[uuid.UUID]:
        """Batches marked so long ago that their ledger keys can go."""
        async with self.database.transaction(lease) as connection:
            return [row["id"] for row in await connection.fetch("ledger_keys_due", slot, grace_seconds)]

    @failpoint("publisher.mark_ledger_cleared")
    async def mark_ledger_cleared(self, lease: Held, batch_ids: Sequence[uuid.UUID]) -> None:
        """Remember that ledger keys are gone."""
        async with self.database.transaction(lease) as connection:
            await connection.execute("mark_ledger_cleared", list(batch_ids))
