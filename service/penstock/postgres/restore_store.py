"""What `penstock resume restored` writes, once nobody publishes. Everything here is safe to do twice."""

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from penstock.core.answered import Answered, merged
from penstock.core.batch import BatchState, ProviderBatch, Verdict, split_where
from penstock.postgres.audit import note
from penstock.postgres.batch_row import BatchRow, load_batch
from penstock.postgres.database import Connection, Database, columns
from penstock.postgres.intake_store import Place, read_answered
from penstock.postgres.window_store import Birth, read_manifest, split_batch

ANSWERED_BEFORE = Verdict("answered_before", "It is answered already; nothing is published.")
"""On requests whose result is in its topic: it is never seen there."""


class Replaced(NamedTuple):
    """A partition of which the result topics hold answers of a later incarnation than the one that Postgres knows."""

    topic: str
    position: int
    """Where Postgres stands; the first offset that the topic holds when Postgres knows no position."""
    incarnation: int
    answered_from: int
    """The first offset that is answered in that incarnation."""

    @property
    def reason(self) -> str:
        """What is known, and what an operator has to decide."""
        doubt = f"offsets {self.position} to {self.answered_from - 1} are new messages, or were answered before that"
        return (
            f"the log was replaced after the backup: answers of its incarnation {self.incarnation} begin at offset "
            f"{self.answered_from}" + (f"; {doubt}" if self.position < self.answered_from else "")
        )


class RestoreStore:
    """A database that was restored from an older backup."""

    def __init__(self, database: Database, slots: int) -> None:
        self.database = database
        self.slots = slots

    async def note(self, answered: Answered) -> Answered:
        """Remember which requests are answered, beside those of earlier times; what was published counts no more.

        From now on the result topics alone say what is published of the batches that are decided.
        """
        async with self.database.transaction() as connection:
            known = await read_answered(connection)
            places = {*known.spans, *answered.spans}
            spans = {place: merged([*known.of(*place), *answered.of(*place)]) for place in places}
            rows = [(uuid.UUID(bytes=place[0]), *place[1:], *span) for place, each in spans.items() for span in each]
            await connection.execute("delete_answered")
            await connection.execute("insert_answered", *columns(rows, 5))
            await connection.execute("forget_positions")
            await note(connection, "resume", "restored", answered=answered.requests)
        return Answered(spans)

    async def halt_replaced(self, cluster_id: str, place: Place, replaced: Replaced) -> None:
        """Halt a partition whose log was replaced after the backup, so that resuming it begins that incarnation."""
        position, topic = replaced.position, replaced.topic
        async with self.database.transaction() as connection:
            halted = position, replaced.incarnation - 1, replaced.reason, min(position, replaced.answered_from)
            await connection.execute("halt_replaced", cluster_id, *place, topic, *halted)

    async def close_unsealed(self, answered: Answered) -> int:
        """Take what waits in windows and is answered, whole chunks of it, out of them; returns the requests."""
        closed = 0
        for row in await self.database.fetch("chunks_unsealed"):
            async with self.database.transaction() as connection:
                manifest = await read_manifest(connection, row["id"])
                if all(manifest.origin(index) in answered for index in range(row["taken"], row["requests"])):
                    await connection.execute("close_unsealed", row["id"], row["taken"])
                    closed += row["requests"] - row["taken"]
        return closed

    async def uncreated(self) -> list[BatchRow]:
        """The batches that Postgres believes to be here still, or in doubt."""
        async with self.database.transaction() as connection:
            rows = await connection.fetch("batches_uncreated")
            return [await load_batch(connection, row["id"]) for row in rows]

    async def adopt(self, batch: BatchRow, found: ProviderBatch, create_id: uuid.UUID) -> None:
        """Go on with a batch that the provider has, and Postgres did not know to be created."""
        async with self.database.transaction() as connection:
            await connection.row("lock_batch", batch.id, batch.state.value)
            await connection.execute("settle_doubts", batch.id)
            await connection.execute("adopt_intent", create_id, batch.id, batch.key.account, found.id)
            if batch.state is BatchState.SEALED:
                await connection.execute("adopt_file", batch.id, found.input_file_id or "")
            await connection.execute(
                "move_to_submitted", batch.id, found.id, found.status, found.created_at, found.expires_at
            )
            await connection.execute(
                "adopt_reservation", batch.id, batch.key.account, batch.key.model, batch.size.tokens
            )

    async def cut_answered(self, batch: BatchRow, answered: Answered) -> int:
        """Cut what is answered out of a sealed batch, so that it is not created again; returns the requests."""
        async with self.database.transaction() as connection:
            flags = {part.chunk_id: await self.flags(connection, part.chunk_id, answered) for part in batch.parts}
            pieces = split_where(batch.parts, flags.__getitem__, ANSWERED_BEFORE)
            cut = sum(part.requests for parts, verdict in pieces if verdict for part in parts)
            if cut:
                await connection.row("lock_batch", batch.id, BatchState.SEALED.value)
                birth = Birth(batch.lane_id, self.slots, batch.root_id, batch.lines_lost, batch.sealed_at)
                await split_batch(connection, batch.id, birth, pieces)
            return cut

    async def flags(self, connection: Connection, chunk_id: uuid.UUID, answered: Answered) -> Sequence[bool]:
        """Whether each request of a chunk is answered."""
        manifest = await read_manifest(connection, chunk_id)
        return [manifest.origin(index) in answered for index in range(manifest.requests)]
