"""What people and gauges read: queue, batches, where a request is. Nothing here changes data but heartbeats."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from penstock.core.decision import Decision, decode_decision
from penstock.core.lane import LaneKey
from penstock.postgres.database import Database
from penstock.postgres.intake_store import lane_key
from penstock.telemetry.failpoint import failpoint

MANIFESTS_FIRST = 64
MANIFESTS_MAX = 5000
PAGE_BYTES = 4 * 1024 * 1024


class Wait(NamedTuple):
    """Requests of a lane that wait at one stage."""

    key: LaneKey
    stage: str
    requests: int
    bytes: int
    oldest_age_seconds: float


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
    actionable: dict[str, int]


class ReportStore:
    """Reads for the command line and the gauges."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @failpoint("census.heartbeat")
    async def heartbeat(self, replica: uuid.UUID, generation: int, lanes_sha256: bytes) -> tuple[int, int]:
        """Say that this replica lives; returns the newest live generation and how many configurations there are."""
        async with self.database.transaction() as connection:
            await connection.execute("heartbeat", replica, generation, lanes_sha256)
            row = await connection.row("live_generations")
            return (row["newest"], row["variants"]) if row else (generation, 1)

    @failpoint("census.gauges")
    async def gauges(self) -> Gauges:
        """Everything that the cluster's gauges and `penstock status` show."""
        async with self.database.transaction() as connection:
            waits = await connection.fetch("waits")
            states = await connection.fetch("batch_states")
            statuses = await connection.fetch("provider_statuses")
            enqueued = await connection.fetch("enqueued")
            doubt = await connection.fetch("in_doubt")
            actionable = await connection.fetch("actionable")
        return Gauges(
            [
                Wait(lane_key(row), row["stage"], row["requests"], row["bytes"], row["oldest_age_seconds"])
                for row in waits
            ],
            {row["state"]: row["batches"] for row in states},
            {row["status"]: row["batches"] for row in statuses},
            {lane_key(row): row["tokens"] for row in enqueued},
            {lane_key(row): row["learned_limit"] for row in enqueued if row["learned_limit"] is not None},
            doubt[0]["creates"],
            doubt[0]["age_seconds"],
            dict(actionable[0]),
        )

    async def totals(self) -> dict[str, Any]:
        """Batches, results, tokens and money of the last day."""
        return dict((await self.database.fetch("totals"))[0])

    async def batches(self, search: str | None, limit: int) -> list[dict[str, Any]]:
        """Batches, newest first; or those whose id starts so, or that have this id at the provider."""
        return [dict(row) for row in await self.database.fetch("recent_batches", search, limit)]

    async def creates(self, batch_id: uuid.UUID) -> list[dict[str, Any]]:
        """Every create that was announced for a batch."""
        return [dict(row) for row in await self.database.fetch("creates_of", batch_id)]

    async def parts(self, batch_id: uuid.UUID) -> list[dict[str, Any]]:
        """What a batch is made of."""
        return [dict(row) for row in await self.database.fetch("parts_shown", batch_id)]

    async def decision(self, batch_id: uuid.UUID) -> Decision | None:
        """What was decided for a batch."""
        rows = await self.database.fetch("read_decision", batch_id)
        return decode_decision(rows[0]["body"]) if rows else None

    async def backlogs(self) -> list[dict[str, Any]]:
        """What each request topic holds in Postgres, and whether its intake pauses."""
        return [dict(row) for row in await self.database.fetch("backlogs")]

    async def halts(self) -> list[dict[str, Any]]:
        """What stands still until an operator acts."""
        return [dict(row) for row in await self.database.fetch("halts")]

    async def manifests(self) -> AsyncIterator[list[tuple[uuid.UUID, int, bytes]]]:
        """Every stored manifest, compressed, in pages of (chunk, attempt, body) of about PAGE_BYTES."""
        after, limit = uuid.UUID(int=0), MANIFESTS_FIRST
        while rows := await self.database.fetch("manifests_page", after, limit):
            yield [(row["id"], row["attempt"], row["body"]) for row in rows]
            after = rows[-1]["id"]
            mean_bytes = sum(len(row["body"]) for row in rows) / len(rows)
            limit = min(MANIFESTS_MAX, int(PAGE_BYTES / mean_bytes) + 1)

    async def whereabouts(self, chunk_id: uuid.UUID, index: int) -> dict[str, Any] | None:
        """Lane and, once sealed, batch of a request of a chunk; None when the chunk is gone."""
        rows = await self.database.fetch("whereabouts", chunk_id, index)
        return dict(rows[0]) if rows else None
