"""What the collector writes, under the slot's lease: decisions with new chunks, or batches sent again or split."""

import uuid
from collections.abc import AsyncIterator, Callable, Sequence

from penstock.core.batch import BatchState, Verdict
from penstock.core.chunk import NewChunk
from penstock.core.decision import Decision, decode_decision, encode_decision
from penstock.core.errors import Superseded
from penstock.core.token import calibrate, underestimated
from penstock.core.window import Part
from penstock.postgres.batch_row import BatchRow, load_batch, lock_batch
from penstock.postgres.database import Connection, Database, Held
from penstock.postgres.intake_store import store_chunks
from penstock.postgres.submitter_store import Again, send_again
from penstock.postgres.window_store import Birth, split_batch
from penstock.telemetry.failpoint import failpoint

NewChunks = Callable[[Connection], AsyncIterator[tuple[NewChunk, float]]]
"""Chunks of another try, each with its delay in seconds; made while they are stored, so that memory holds one.

They read on the transaction's own connection: waiting for a second one while holding the first would exhaust the pool.
"""


class CollectorStore:
    """A decision and the chunks of another try are stored in one transaction."""

    def __init__(self, database: Database, slots: int) -> None:
        self.database = database
        self.slots = slots

    @failpoint("collector.load")
    async def load(self, batch_id: uuid.UUID) -> BatchRow:
        """Read a batch.

        Raises:
            Superseded: there is none.
        """
        async with self.database.transaction() as connection:
            return await load_batch(connection, batch_id)

    @failpoint("collector.decide")
    async def decide(
        self, lease: Held, batch: BatchRow, decision_id: uuid.UUID, decision: Decision, chunks: NewChunks
    ) -> None:
        """Store a decision, once for each batch."""
        async with self.database.transaction(lease) as connection:
            await lock_batch(connection, batch.id, BatchState.ENDED)
            await connection.execute("insert_decision", decision_id, batch.id, encode_decision(decision))
            async for chunk, delay_seconds in chunks(connection):
                await store_chunks(connection, [(batch.lane_id, chunk)], delay_seconds)
            await connection.execute("move_to_decided", batch.id, decision_id, decision.finals)

    @failpoint("collector.revise")
    async def revise(self, lease: Held, batch: BatchRow, decision: Decision, chunks: NewChunks) -> None:
        """Turn unpublished positions whose paid lines are gone into another try (W4)."""
        async with self.database.transaction(lease) as connection:
            await lock_batch(connection, batch.id, BatchState.DECIDED)
            await connection.execute("revise_decision", batch.id, encode_decision(decision))
            await connection.execute("revise_finals", batch.id, decision.finals)
            async for chunk, delay_seconds in chunks(connection):
                await store_chunks(connection, [(batch.lane_id, chunk)], delay_seconds)

    @failpoint("collector.clock")
    async def database_clock(self) -> float:
        """The database's clock, in Unix seconds."""
        rows = await self.database.fetch("database_clock")
        return float(rows[0][0])

    @failpoint("collector.read_decision")
    async def read_decision(self, batch_id: uuid.UUID) -> tuple[uuid.UUID, Decision]:
        """A stored decision and its id.

        Raises:
            UnknownFormat: a newer version wrote it.
            Superseded: there is none.
        """
        rows = await self.database.fetch("read_decision", batch_id)
        if not rows:
            raise Superseded(f"batch {batch_id} has no decision")
        return rows[0]["id"], decode_decision(rows[0]["body"])

    @failpoint("collector.again")
    async def again(self, lease: Held, batch: BatchRow, again: Again, *, exempt: bool = False) -> None:
        """Send a refused batch once more, later.

        Args:
            lease: of the batch's slot, or of the batch.
            batch: ended, or sealed.
            again: when, and with which file.
            exempt: its create does not count towards those that its window may have.
        """
        async with self.database.transaction(lease) as connection:
            await lock_batch(connection, batch.id, batch.state)
            if exempt:
                await connection.execute("exempt_create", batch.id, batch.provider_batch_id)
            await send_again(connection, batch.id, again)

    @failpoint("collector.split")
    async def split(
        self, lease: Held, batch: BatchRow, pieces: Sequence[tuple[Sequence[Part], Verdict | None]], lines_lost: int
    ) -> None:
        """Let a refused batch, ended or sealed, live on in pieces."""
        async with self.database.transaction(lease) as connection:
            await lock_batch(connection, batch.id, batch.state)
            birth = Birth(batch.lane_id, self.slots, batch.root_id, lines_lost, batch.sealed_at)
            await split_batch(connection, batch.id, birth, pieces)

    @failpoint("collector.learn_limit")
    async def learn_limit(
        self, account: str, model: str, limit: int | None, configured: int | None = None
    ) -> int | None:
        """Remember a model's enqueued-token limit; None means that it was hit but not named: probe for it.

        Nothing is learned while a batch that was given up may still hold tokens there: a refusal then says as much of
        that batch as of the limit.
        Where it is the limit that was in force, configured or learned, the estimate was too low, and learns.

        Returns:
            The limit in force from now on, in tokens; None when it is not known.
        """
        async with self.database.transaction() as connection:
            if await connection.value("given_up_open", account, model):
                return None
            earlier = await connection.row("read_quota", account, model)
            await connection.execute("learn_limit", account, model, limit)
            in_force = configured or (earlier["learned_limit"] if earlier else None)
            if limit is not None and limit == in_force:
                factor = underestimated(earlier["factor"] if earlier else 1.0)
                await connection.execute("store_factor", account, model, factor)
            return limit or in_force

    @failpoint("collector.calibrate")
    async def calibrate(self, account: str, model: str, estimated: int, used: int) -> float:
        """Let a finished batch's real tokens correct the model's estimate; returns the factor."""
        async with self.database.transaction() as connection:
            factor = calibrate(await connection.value("read_factor", account, model) or 1.0, estimated, used)
            await connection.execute("store_factor", account, model, factor)
            await connection.execute("stop_probing", account, model)
            return factor

    @failpoint("collector.set_probing")
    async def set_probing(self, lane_id: int, *, probing: bool) -> None:
        """A lane whose last batch mostly failed by the provider's fault sends small probes first (W5)."""
        async with self.database.transaction() as connection:
            await connection.execute("set_probing", lane_id, probing)

    @failpoint("collector.halt_lane")
    async def halt_lane(self, lease: Held, batch: BatchRow, reason: str) -> None:
        """Stop the lane of a refused batch until an operator has looked; then it is sent again, in a new file.

        What the lane has sealed gives back its tokens: nothing of it is created, and no other lane waits for it.
        """
        async with self.database.transaction(lease) as connection:
            await lock_batch(connection, batch.id, batch.state)
            await connection.execute("halt_lane", batch.lane_id, reason)
            await send_again(connection, batch.id, Again(0.0, new_file=True))
            await connection.execute("release_held")
