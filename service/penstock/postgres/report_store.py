"""What people and gauges read: queue, batches, where a request is. Nothing here changes data but heartbeats."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from penstock.core.lane import LaneKey
from penstock.postgres.database import Database
from penstock.postgres.intake_store import lane_key
from penstock.telemetry.failpoint import failpoint

MANIFESTS_PER_PAGE = 64


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

    async def manifests(self) -> AsyncIterator[list[tuple[uuid.UUID, int, bytes]]]:
        """Every stored manifest, compressed, in pages of (chunk, attempt, body)."""
        after = uuid.UUID(int=0)
        while rows := await self.database.fetch("manifests_page", after, MANIFESTS_PER_PAGE):
            yield [(row["id"], row["attempt"], row["body"]) for row in rows]
            after = rows[-1]["id"]

    async def whereabouts(self, chunk_id: uuid.UUID, index: int) -> dict[str, Any] | None:
        """The batch that a request of a chunk belongs to, if it is sealed."""
        rows = await self.database.fetch("whereabouts", chunk_id, index)
        return dict(rows[0]) if rows else None
