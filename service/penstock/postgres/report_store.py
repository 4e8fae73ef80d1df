"""What people read: totals, batches, where a request is. Nothing here changes data."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

from penstock.core.decision import Decision, decode_decision
from penstock.postgres.census_store import CensusStore

MANIFESTS_FIRST = 64
MANIFESTS_MAX = 5000
PAGE_BYTES = 4 * 1024 * 1024


class ReportStore(CensusStore):
    """Reads for the command line, beside those of the gauges."""

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

    async def unread(self) -> list[dict[str, Any]]:
        """What request topics hold that is not stored yet, where the replicas that read them saw any."""
        return [dict(row) for row in await self.database.fetch("unread")]

    async def halts(self) -> list[dict[str, Any]]:
        """What stands still until an operator acts."""
        return [dict(row) for row in await self.database.fetch("halts")]

    async def ending(self) -> list[dict[str, Any]]:
        """Batches that have to end and have not, at most 20."""
        return [dict(row) for row in await self.database.fetch("ending")]

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
