"""Crash point 19: two replicas seal one lane at once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest
from pydantic import SecretStr

from penstock.core.chunk import NewChunk
from penstock.core.identity import new_id
from penstock.core.lane import LaneKey
from penstock.core.window import ChunkSummary, Sealed, SealReason, Size, WindowLimits, seal
from penstock.postgres.database import Database
from penstock.postgres.intake_store import IntakeStore, store_chunks
from penstock.postgres.lease_store import LeaseStore
from penstock.postgres.migrate import migrate
from penstock.postgres.window_store import Birth, WindowStore
from penstock.settings import PostgresSettings
from penstock.stages.lease import Lease
from tests.support.crash import until

REQUESTS = 10
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Database]:
    """The database, as a replica has it."""
    database = Database(PostgresSettings(dsn=SecretStr(dsn)), "test")
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def fill_lane(database: Database) -> int:
    """A lane with three chunks that wait; its id."""
    key = LaneKey("default", "/v1/responses", "gpt-4o", "24h")
    lane_id = (await IntakeStore(database, "cluster").open_lanes([key], 10))[key]
    size = Size(REQUESTS, 1000, 100, REQUESTS)
    chunks = [(lane_id, NewChunk(new_id(), "requests", 0, size, 4e9, b"lines", b"manifest")) for _ in range(3)]
    async with database.transaction() as connection:
        await store_chunks(connection, chunks)
    return lane_id


def flush(chunks: Sequence[ChunkSummary], sizes_of: Callable[[UUID], Sequence[Size]]) -> list[Sealed]:
    """Seal what there is, in one window."""
    limits = WindowLimits(1000, 10**6, 1000, None)
    return seal(chunks, limits, sizes_of, age_max_seconds=0, flush=True)


async def seal_as(replica: str, database: Database, lane_id: int) -> int:
    """Seal under a lease of one's own: whoever holds the sealer's may have lost it without knowing."""
    epoch = await LeaseStore(database, new_id(), 30).acquire_lease(replica)
    assert epoch is not None
    lease = Lease(replica, epoch, 30, 30, 0)
    return len(await WindowStore(database).seal(lease, Birth(lane_id, 4), flush, dead=False))


@pytest.mark.defence("lane_lock_and_exact_count")
async def test_a_lane_that_two_replicas_seal_at_once_is_sealed_once(database: str) -> None:
    """Crash point 19: both have read the same chunks. Off: neither lock nor exact count (each alone suffices)."""
    async with opened(database) as replica:
        await migrate(replica)
        lane_id = await fill_lane(replica)
        gate = await asyncpg.connect(database)
        hold = gate.transaction()
        await hold.start()
        await gate.execute("SELECT 1 FROM chunk FOR UPDATE")
        sealing = [asyncio.create_task(seal_as(name, replica, lane_id)) for name in ("first", "second")]

        async def both_wait() -> bool:
            return bool(await replica.pool.fetchval(BLOCKED) == len(sealing))

        await until(both_wait)
        await hold.rollback()
        await asyncio.gather(*sealing)
        [(sealed, reasons)] = await gate.fetch("SELECT sum(requests), array_agg(seal_reason) FROM batch")
        await gate.close()
    assert sealed == 3 * REQUESTS, f"{sealed} requests were sealed of {3 * REQUESTS}"
    assert reasons == [SealReason.AGE]
