"""What the poller reads and writes: statuses, forward only."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from penstock.core.batch import ProviderBatch, is_terminal, passed_validation
from penstock.core.lane import LaneKey, window_seconds
from penstock.core.price import Bill
from penstock.postgres.database import Database, Held, Record
from penstock.postgres.intake_store import lane_key
from penstock.telemetry.failpoint import failpoint


@dataclass(frozen=True, slots=True)
class Watched:
    """A batch that is open at the provider. Ages are seconds by the database's clock."""

    id: uuid.UUID
    key: LaneKey
    requests: int
    provider_batch_id: str
    status: str
    submitted_at: datetime
    age_seconds: float
    overdue_seconds: float
    cancelling_seconds: float | None
    cancel: bool
    """Whether an operator wants it to end."""
    abandoned: bool
    cancel_asked_seconds: float | None = None
    """Since an operator wants it to end; None where that is not known, or nobody wants it."""
    abandoned_seconds: float | None = None
    """Since it was given up here."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A status seen at the provider, for a batch whose last status we know."""

    watched: Watched
    seen: ProviderBatch
    bill: Bill | None


def overdue_seconds(row: Record) -> float:
    """How long a batch is past its expiry; one that tells none has the completion window of its lane."""
    told: float | None = row["overdue_seconds"]
    age: float = row["age_seconds"]
    return age - window_seconds(row["completion_window"]) if told is None else told


class PollerStore:
    """Guarded by the lease `poller/<account>`; each status is compared with the one last stored."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @failpoint("poller.watched")
    async def watched(self, account: str) -> list[Watched]:
        """Every batch of the account that is not over at the provider, oldest first."""
        return [
            Watched(
                row["id"],
                lane_key(row),
                row["requests"],
                row["provider_batch_id"],
                row["provider_status"],
                row["submitted_at"],
                row["age_seconds"],
                overdue_seconds(row),
                row["cancelling_seconds"],
                row["cancel"] is not None,
                row["abandoned"],
                row["cancel_asked_seconds"],
                row["abandoned_seconds"],
            )
            for row in await self.database.fetch("watched_batches", account)
        ]

    @failpoint("poller.take_hints")
    async def take_hints(self, account: str) -> set[str]:
        """The open batches, by the provider's id, that webhooks have hinted at since the last time.

        A webhook that was faster than the note of its batch's id waits for it.
        """
        return {row["provider_batch_id"] for row in await self.database.fetch("take_hints", account)}

    @failpoint("poller.record")
    async def record(self, lease: Held, sightings: Sequence[Sighting]) -> set[uuid.UUID]:
        """Store statuses that moved; a terminal one ends the batch and releases its tokens (S3).

        Returns:
            The batches whose row moved; a sighting that came late moves nothing.
        """
        moved = set()
        passed = []
        async with self.database.transaction(lease) as connection:
            for each in sightings:
                seen = each.seen
                errors = [{"code": e.code, "message": e.message, "line": e.line} for e in seen.errors] or None
                found = await connection.value(
                    "record_status",
                    each.watched.id,
                    each.watched.status,
                    seen.status,
                    seen.expires_at,
                    seen.output_file_id,
                    seen.error_file_id,
                    errors,
                    seen.input_tokens,
                    seen.output_tokens,
                    each.bill.cost_usd if each.bill else None,
                    each.bill.saving_usd if each.bill else None,
                )
                if found is None:
                    continue
                moved.add(each.watched.id)
                if passed_validation(seen.status) and not passed_validation(each.watched.status):
                    passed.append(each.watched.id)
                if is_terminal(seen.status):
                    await connection.execute("record_end", each.watched.id)
                    await connection.execute("delete_reservation", [each.watched.id])
            if passed:
                await connection.execute("raise_validating_max", passed)
        return moved

    @failpoint("poller.request_cancel")
    async def request_cancel(self, lease: Held, batch_id: uuid.UUID) -> None:
        """Remember that a batch was told to stop."""
        async with self.database.transaction(lease) as connection:
            await connection.execute("request_cancel", batch_id)

    @failpoint("poller.abandon")
    async def abandon(self, lease: Held, batch_id: uuid.UUID, *, gone: bool) -> bool:
        """Close a batch here that will not end there; it is never collected (W3).

        Args:
            lease: of the poller.
            batch_id: the batch.
            gone: the provider does not know it any more: its tokens are free, and there is no end to watch for.

        Returns:
            Whether it was open until now.
        """
        async with self.database.transaction(lease) as connection:
            closed = await connection.execute("abandon", batch_id) == 1
            if gone:
                await connection.execute("record_end", batch_id)
                await connection.execute("delete_reservation", [batch_id])
            return closed

    @failpoint("poller.forget")
    async def forget(self, lease: Held, batch_id: uuid.UUID) -> bool:
        """Watch a batch that was given up no longer, and give its tokens back.

        Returns:
            Whether it was watched until now.
        """
        async with self.database.transaction(lease) as connection:
            ended = await connection.value("record_end", batch_id)
            await connection.execute("delete_reservation", [batch_id])
            return ended is not None
