"""What the submitter reads and writes: reservations, claims, intents, answers."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from penstock.core.batch import (
    CANCELLED,
    BatchState,
    ProviderBatch,
    Verdict,
    passed_validation,
    split_by_deadline,
)
from penstock.core.errors import Superseded
from penstock.core.filling import cut
from penstock.core.identity import new_id
from penstock.core.lane import LaneKey
from penstock.core.quota import LEARNED_SECONDS, NOTHING_RESERVED, Reserved, Waiting, grants
from penstock.core.token import expected
from penstock.core.window import WindowLimits
from penstock.postgres.batch_row import BatchRow, load_batch, lock_batch
from penstock.postgres.database import Connection, Database, Held, columns
from penstock.postgres.window_store import Birth, measure, read_manifests, request_sizes, split_batch
from penstock.telemetry.failpoint import failpoint


@dataclass(frozen=True, slots=True)
class Intent:
    """A create that was announced and whose answer is not known yet."""

    id: uuid.UUID
    intended_at: datetime
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Claim:
    """A batch that this replica may submit, under a fresh lease epoch."""

    batch: BatchRow
    epoch: int
    doubts: tuple[Intent, ...]
    halted: bool = False
    """The account is halted, and this batch is the one call that tries whether it still is."""


@dataclass(frozen=True, slots=True)
class Again:
    """How a batch goes back to wait: for how long, whether it counts as a refusal, and whether it needs a new file."""

    delay_seconds: float
    refusals: int = 0
    new_file: bool = False


LimitOf = Callable[[LaneKey, int | None], int | None]
"""The enqueued-token limit in force for a lane's model, given what was learned."""


class SubmitterStore:
    """Guarded by the lease `batch/<id>`; every write locks the batch by state first (B1)."""

    def __init__(
        self,
        database: Database,
        holder: uuid.UUID,
        lease_seconds: float,
        slots: int,
        validating_seconds_max: float = 900.0,
    ) -> None:
        self.database = database
        self.validating_seconds_max = validating_seconds_max
        self.holder = holder
        self.lease_seconds = lease_seconds
        self.slots = slots

    @failpoint("submitter.models_waiting")
    async def models_waiting(self) -> list[tuple[str, str]]:
        """Accounts and models with sealed batches that hold no reservation."""
        return [(row["account"], row["model"]) for row in await self.database.fetch("models_waiting")]

    @failpoint("submitter.reserve")
    async def reserve(self, account: str, model: str, limit_of: LimitOf) -> int:
        """Grant reservations of one model, oldest first, under a lock on its quota (S3).

        A batch that is over the limit in force now is cut again in the same transaction (S2).

        Returns:
            Batches granted or cut.
        """
        async with self.database.transaction() as connection:
            await connection.execute("insert_quota", account, model)
            quota = await connection.row("lock_quota", account, model, LEARNED_SECONDS)
            rows = await connection.fetch("batches_waiting", account, model)
            if not rows or quota is None:
                return 0
            key = LaneKey(account, rows[0]["endpoint"], model, rows[0]["completion_window"])
            limit = limit_of(key, quota["learned_limit"])
            waiting = [Waiting(row["id"], expected(row["tokens"], quota["factor"])) for row in rows]
            if limit is not None and waiting[0].tokens > limit and rows[0]["requests"] > 1:
                await self.cut(
                    connection, rows[0]["id"], max(1, int(rows[0]["tokens"] * limit / 4 / waiting[0].tokens))
                )
                return 1
            row = await connection.row("reserved", account, model, self.validating_seconds_max)
            reserved = Reserved(row["tokens"], row["batches"], row["unproven"]) if row else NOTHING_RESERVED
            unproven_max = 1 if quota["probing"] else quota["validating_max"]
            granted = grants(waiting, reserved, limit, unproven_max=unproven_max, probing=quota["probing"])
            await connection.execute("insert_reservations", account, model, *columns(granted, 2))
            return len(granted)

    async def cut(self, connection: Connection, batch_id: uuid.UUID, tokens_max: int) -> None:
        """Cut a sealed batch into batches of at most so many nominal tokens.

        Each piece is a window of its own with its own budget of creates (B5): nothing was refused, and a large window
        on a small limit has more pieces than a refused one may have creates.
        """
        await lock_batch(connection, batch_id, BatchState.SEALED)
        batch = await load_batch(connection, batch_id)
        manifests = await read_manifests(connection, batch.parts)
        sizes = {chunk_id: request_sizes(each) for chunk_id, each in manifests.items()}
        limits = WindowLimits(batch.size.requests, batch.size.bytes, batch.size.inputs, tokens_max)
        pieces = [(each.parts, None) for each in cut(batch.parts, limits, sizes.__getitem__)]
        await split_batch(connection, batch_id, replace(self.birth(batch), root_id=None), pieces)

    def birth(self, batch: BatchRow, lines_lost: int = 0) -> Birth:
        """What the pieces of a split batch inherit."""
        return Birth(batch.lane_id, self.slots, batch.root_id, batch.lines_lost + lines_lost, batch.sealed_at)

    @failpoint("submitter.claim")
    async def claim(self, account: str, look_up_seconds: float) -> Claim | None:
        """Claim an account's oldest batch that is to be submitted or whose create is in doubt.

        Args:
            account: the account.
            look_up_seconds: a create in doubt is looked up this often.
        """
        async with self.database.transaction() as connection:
            found = await connection.row("claimable_batch", account, look_up_seconds)
            if found is None:
                return None
            batch_id, halted = found["id"], found["halted"] and found["state"] == BatchState.SEALED
            if halted and not await connection.value("take_try", account, "submitter"):
                return None  # another replica has just taken it
            epoch = await connection.value("acquire_lease", f"batch/{batch_id}", self.holder, self.lease_seconds)
            if epoch is None:
                return None
            doubts = await connection.fetch("doubt_of", batch_id)
            return Claim(
                await load_batch(connection, batch_id),
                epoch,
                tuple(Intent(row["id"], row["intended_at"], row["age_seconds"]) for row in doubts),
                halted,
            )

    @failpoint("submitter.past_deadline")
    async def past_deadline(self) -> list[uuid.UUID]:
        """Sealed batches of which something has passed its deadline, oldest first."""
        return [row["id"] for row in await self.database.fetch("past_deadline")]

    @failpoint("submitter.expire")
    async def expire(self, batch_id: uuid.UUID) -> bool:
        """Answer what has passed its deadline while it waited: cut it out of its batch, with a verdict (W6)."""
        async with self.database.transaction() as connection:
            epoch = await connection.value("acquire_lease", f"batch/{batch_id}", self.holder, self.lease_seconds)
            if epoch is None:
                return False
            await lock_batch(connection, batch_id, BatchState.SEALED)
            batch = await load_batch(connection, batch_id)
            now = await connection.value("database_clock")
            manifests = await read_manifests(connection, batch.parts)
            pieces = split_by_deadline(batch.parts, lambda each: manifests[each].deadlines, now)
            expired = any(verdict is not None for _, verdict in pieces)
            if expired:
                await split_batch(connection, batch_id, self.birth(batch), pieces)
            else:
                # A chunk's deadline is that of all its requests; the earliest may be in another batch.
                _, deadline_at = await measure(connection, batch.parts)
                await connection.execute("correct_deadline", batch_id, deadline_at)
            await connection.execute("release_lease", f"batch/{batch_id}", epoch)
            return expired

    @failpoint("submitter.withdrawn")
    async def withdrawn(self) -> list[uuid.UUID]:
        """Sealed batches that an operator has cancelled before they were sent, oldest first."""
        return [row["id"] for row in await self.database.fetch("withdrawn")]

    @failpoint("submitter.withdraw")
    async def withdraw(self, batch_id: uuid.UUID) -> None:
        """End a batch that was cancelled before it was sent: answer its requests, or let them go again in others."""
        async with self.database.transaction() as connection:
            epoch = await connection.value("acquire_lease", f"batch/{batch_id}", self.holder, self.lease_seconds)
            if epoch is None:
                return
            await lock_batch(connection, batch_id, BatchState.SEALED)
            await connection.execute("delete_reservation", [batch_id])
            await connection.execute("move_to_withdrawn", batch_id, CANCELLED.code, CANCELLED.message)
            await connection.execute("release_lease", f"batch/{batch_id}", epoch)

    @failpoint("submitter.store_file")
    async def store_file(self, lease: Held, batch_id: uuid.UUID, file_id: str) -> None:
        """Remember the uploaded file."""
        async with self.database.transaction(lease) as connection:
            await lock_batch(connection, batch_id, BatchState.SEALED)
            await connection.execute("store_file", batch_id, file_id)

    @failpoint("submitter.intend")
    async def intend(self, lease: Held, batch: BatchRow, creates_per_hour: int) -> uuid.UUID | None:
        """Write the intent to create, before the create is sent (B2).

        None when the hour's budget is used up, a deadline has passed meanwhile (W6), or an operator holds it.
        """
        async with self.database.transaction(lease) as connection:
            await connection.row("lock_creates", batch.key.account)
            await lock_batch(connection, batch.id, BatchState.SEALED)
            if not await connection.value("may_start", batch.id):
                return None
            if await connection.value("count_creates", batch.key.account) >= creates_per_hour:
                return None
            intent_id = new_id()
            await connection.execute("insert_intent", intent_id, batch.id, batch.key.account)
            await connection.execute("move_to_creating", batch.id)
            return intent_id

    @failpoint("submitter.settle")
    async def landed(
        self, lease: Held, batch_id: uuid.UUID, intent_id: uuid.UUID, answer: ProviderBatch, *, adopted: bool
    ) -> None:
        """Store the create's answer."""
        async with self.database.transaction(lease) as connection:
            await lock_batch(connection, batch_id, BatchState.CREATING)
            outcome = "adopted" if adopted else "landed"
            await settle(connection, intent_id, outcome, answer.id)
            await connection.execute(
                "move_to_submitted", batch_id, answer.id, answer.status, answer.created_at, answer.expires_at
            )
            if passed_validation(answer.status):
                await connection.execute("raise_validating_max", [batch_id])

    @failpoint("submitter.refused")
    async def refused(
        self,
        lease: Held,
        batch_id: uuid.UUID,
        intent_ids: Sequence[uuid.UUID],
        outcome: str,
        again: Again,
        *,
        counted: bool | None = None,
    ) -> None:
        """Settle creates that made no batch, and send the batch back to wait.

        Args:
            lease: of the batch.
            batch_id: the batch.
            intent_ids: the creates.
            outcome: `refused` by the provider, or `absent` after the deciding look-up.
            again: when, and with which file.
            counted: whether they count towards the window's creates; by default they do not, having made no batch.
        """
        async with self.database.transaction(lease) as connection:
            await lock_batch(connection, batch_id, BatchState.CREATING)
            for intent_id in intent_ids:
                await settle(connection, intent_id, outcome, None, counted=counted)
            await send_again(connection, batch_id, again)

    @failpoint("submitter.answer")
    async def answer(self, lease: Held, batch_id: uuid.UUID, verdict: Verdict) -> None:
        """Give up submitting: the verdict answers every position of a sealed batch."""
        async with self.database.transaction(lease) as connection:
            await lock_batch(connection, batch_id, BatchState.SEALED)
            await end_by_verdict(connection, batch_id, verdict)

    @failpoint("submitter.looked_up")
    async def looked_up(self, lease: Held, batch_id: uuid.UUID) -> None:
        """Remember when a create in doubt was last looked up."""
        async with self.database.transaction(lease) as connection:
            await connection.execute("mark_looked_up", batch_id)

    @failpoint("submitter.made_by_creates")
    async def made_by_creates(self, batch_id: uuid.UUID) -> frozenset[str]:
        """The provider's ids of the batches that creates of a batch are known to have made."""
        rows = await self.database.fetch("made_by_creates", batch_id)
        return frozenset(row["provider_batch_id"] for row in rows)

    @failpoint("submitter.postpone")
    async def postpone(self, lease: Held, batch_id: uuid.UUID, seconds: float) -> None:
        """Let a sealed batch wait, without its reservation."""
        async with self.database.transaction(lease) as connection:
            await lock_batch(connection, batch_id, BatchState.SEALED)
            await send_again(connection, batch_id, Again(seconds))


async def end_by_verdict(connection: Connection, batch_id: uuid.UUID, verdict: Verdict) -> None:
    """End a sealed batch, which the caller has locked, without the provider."""
    await connection.execute("delete_reservation", [batch_id])
    await connection.execute("move_to_ended", batch_id, verdict.code, verdict.message)


async def settle(
    connection: Connection,
    intent_id: uuid.UUID,
    outcome: str,
    provider_batch_id: str | None,
    *,
    counted: bool | None = None,
) -> None:
    """Settle an intent, once.

    Raises:
        Superseded: it is settled already.
    """
    if await connection.execute("settle_intent", intent_id, outcome, provider_batch_id, counted) != 1:
        raise Superseded(f"create {intent_id} is settled already")


async def send_again(connection: Connection, batch_id: uuid.UUID, again: Again) -> None:
    """Move a batch back to sealed and release its tokens."""
    await connection.execute("delete_reservation", [batch_id])
    await connection.execute("move_to_sealed", batch_id, again.delay_seconds, again.refusals, again.new_file)
