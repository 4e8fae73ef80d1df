"""What the census writes and reads: heartbeats, and the cluster at a glance."""

import uuid
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from penstock.core.chunk import FORMAT
from penstock.core.lane import LaneKey
from penstock.postgres.database import Database
from penstock.postgres.intake_store import lane_key
from penstock.telemetry.failpoint import failpoint


class Heartbeat(NamedTuple):
    """The newest live generation, how many configurations there are, and when this replica was and is seen."""

    newest: int
    variants: int
    before: datetime | None
    now: datetime


class Wait(NamedTuple):
    """Requests of a lane that wait at one stage."""

    key: LaneKey
    stage: str
    requests: int
    bytes: int
    oldest_age_seconds: float
    """Since the oldest request was written to Kafka."""
    unstored_seconds: float
    """The longest that one of the requests lay in Kafka before it was stored."""
    deadline_ratio: float
    """Most that a request has used of its time from storing to its deadline, above 1 past the deadline."""


class Stopped(NamedTuple):
    """What needs an operator."""

    lanes_halted: int
    batches_parked: int


@dataclass(frozen=True, slots=True)
class Gauges:
    """The cluster at a glance."""

    waits: list[Wait]
    batches: dict[str, int]
    provider_batches: dict[str, int]
    enqueued: dict[LaneKey, int]
    limits: dict[LaneKey, int]
    in_doubt: int
    in_doubt_age_seconds: float
    actionable: dict[tuple[str, str], int]
    """Batches by account and stage."""
    unknown_chunks: int
    """Unsealed chunks in a format that this version does not know."""
    pauses: dict[str, tuple[int, float]]
    """What operators hold, by kind: how many, and the age of the oldest in seconds."""
    stopped: Stopped
    quota_waits: dict[LaneKey, float]
    """By lane: age in seconds of the oldest sealed batch that waits for tokens."""
    file_ages: dict[str, float]
    """By account: seconds since the first of its unpublished batches ended that have files."""
    uncollected_ages: dict[str, float]
    """By account: seconds since the first of its batches ended whose files are not collected."""
    creates: dict[str, int]
    """Of the last hour, by account."""
    database_bytes: int
    validating_late: dict[str, int]
    """By account: batches that the provider validates for longer than is usual."""


class CensusStore:
    """Who is alive, and every figure of the cluster's gauges."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @failpoint("census.heartbeat")
    async def heartbeat(self, replica: uuid.UUID, generation: int, lanes_sha256: bytes) -> Heartbeat:
        """Say that this replica lives.

        Replicas that fell asleep amid a statement lose their connections, and with them their locks: to the server such
        a transaction is not idle, so that its own limit does not end it (B1).
        """
        async with self.database.transaction() as connection:
            await connection.value("end_sleepers", self.database.idle_seconds)
            before = await connection.value("last_heartbeat", replica)
            now = await connection.value("heartbeat", replica, generation, lanes_sha256)
            row = await connection.row("live_generations")
            newest, variants = (row["newest"], row["variants"]) if row else (generation, 1)
            return Heartbeat(newest, variants, before, now)

    @failpoint("census.leave")
    async def leave(self, replica: uuid.UUID) -> None:
        """Say that this replica has ended."""
        async with self.database.transaction() as connection:
            await connection.execute("delete_heartbeat", replica)

    @failpoint("census.gauges")
    async def gauges(
        self, accounts: Iterable[str] = (), look_up_seconds: float = 0.0, validating_seconds_max: float = 900.0
    ) -> Gauges:
        """Everything that the cluster's gauges and `penstock status` show.

        Args:
            accounts: whose creates are counted.
            look_up_seconds: a create in doubt that was looked up in these cannot be worked on now.
            validating_seconds_max: a batch that is validated for longer is late.
        """
        async with self.database.transaction() as connection:
            waits = await connection.fetch("waits")
            states = await connection.fetch("batch_states")
            statuses = await connection.fetch("provider_statuses")
            enqueued = await connection.fetch("enqueued")
            doubt = await connection.fetch("in_doubt")
            actionable = await connection.fetch("actionable", look_up_seconds)
            unknown_chunks = await connection.value("unknown_chunks", FORMAT)
            pauses = await connection.fetch("count_pauses")
            stopped = await connection.fetch("stopped")
            quota_waits = await connection.fetch("quota_waits")
            file_ages = await connection.fetch("file_ages")
            uncollected = await connection.fetch("uncollected_ages")
            creates = await connection.fetch("creates_by_account", list(accounts))
            database_bytes = await connection.value("database_bytes")
            validating_late = await connection.fetch("validating_late", validating_seconds_max)
        return Gauges(
            [Wait(lane_key(row), *(row[name] for name in Wait._fields[1:])) for row in waits],
            {row["state"]: row["batches"] for row in states},
            {row["status"]: row["batches"] for row in statuses},
            {lane_key(row): row["tokens"] for row in enqueued},
            {lane_key(row): row["learned_limit"] for row in enqueued if row["learned_limit"] is not None},
            doubt[0]["creates"],
            doubt[0]["age_seconds"],
            {(row["account"], row["stage"]): row["batches"] for row in actionable},
            unknown_chunks,
            {row["kind"]: (row["pauses"], row["age_seconds"]) for row in pauses},
            Stopped(**dict(stopped[0])),
            {lane_key(row): row["age_seconds"] for row in quota_waits},
            {row["account"]: row["age_seconds"] for row in file_ages},
            {row["account"]: row["age_seconds"] for row in uncollected},
            {row["account"]: row["creates"] for row in creates},
            database_bytes,
            {row["account"]: row["batches"] for row in validating_late},
        )

    @failpoint("census.read_audit")
    async def audit(self) -> list[dict[str, Any]]:
        """What operators did and no replica has logged yet, oldest first."""
        return [dict(row) for row in await self.database.fetch("read_audit")]

    @failpoint("census.forget_audit")
    async def forget_audit(self, ids: list[int]) -> None:
        """Remove what has been logged."""
        async with self.database.transaction() as connection:
            await connection.execute("delete_audit", ids)


def without_account(waits: Iterable[Wait], accounts: Container[str]) -> dict[str, int]:
    """How many requests wait for accounts other than these, by account."""
    found: dict[str, int] = {}
    for wait in waits:
        if not wait.key.dead and wait.key.account not in accounts:
            found[wait.key.account] = found.get(wait.key.account, 0) + wait.requests
    return found
