"""Past its deadline nothing of a lane is tried again, wherever it waits (W6)."""

import asyncio
import time
import uuid

import pytest

from penstock.core.batch import BatchState
from penstock.core.lane import Lanes
from penstock.postgres.batch_row import load_batch
from penstock.postgres.census_store import CensusStore
from penstock.postgres.database import Database
from penstock.postgres.lease_store import LeaseStore
from penstock.postgres.submitter_store import SubmitterStore
from penstock.postgres.window_store import WindowStore
from penstock.stages.census import Census
from penstock.stages.lease import Lease, LeaseKeeper
from penstock.stages.sealer import Sealer
from tests.support.rows import ACCOUNT, LANE, chunk_of, migrated, seal_all, store

SLOTS = 4
LIMIT = 10**6


def submitter(pool: Database) -> SubmitterStore:
    return SubmitterStore(pool, uuid.uuid4(), 60.0, SLOTS)


async def batch_until(pool: Database, deadline: float) -> uuid.UUID:
    """A sealed batch whose requests have this deadline, with its tokens."""
    lane_id = await store(pool, chunk_of(2, deadline=deadline))
    ((batch_id, _),) = await seal_all(pool, lane_id)
    assert await submitter(pool).reserve(ACCOUNT, LANE.model, lambda *_: LIMIT) == 1
    return batch_id


async def answered(pool: Database) -> list[tuple[int, str]]:
    """Requests that have a verdict, and which."""
    async with pool.pool.acquire() as connection:
        rows = await connection.fetch("SELECT requests, verdict_code FROM batch WHERE state = 'ended'")
        return [(row["requests"], row["verdict_code"]) for row in rows]


@pytest.mark.defence("deadline_at_create")
async def test_no_batch_is_claimed_or_created_past_its_deadline(database: str) -> None:
    """Off: the deadline is looked at neither when a batch is claimed nor when its create is announced."""
    async with migrated(database) as pool:
        batch_id = await batch_until(pool, time.time() - 1)
        claim = await submitter(pool).claim(ACCOUNT, 1.0)
        assert claim is None, "a batch past its deadline is submitted"
        async with pool.pool.acquire() as connection:
            await connection.execute("UPDATE batch SET deadline_at = clock_timestamp() + interval '1 hour'")
        claim = await submitter(pool).claim(ACCOUNT, 1.0)
        assert claim is not None
        lease = Lease(f"batch/{batch_id}", claim.epoch, 60.0, float("inf"), 0.0)
        await submitter(pool).store_file(lease, batch_id, "file-1")
        async with pool.pool.acquire() as connection:
            await connection.execute("UPDATE batch SET deadline_at = clock_timestamp()")
        assert await submitter(pool).intend(lease, claim.batch, 100) is None


@pytest.mark.defence("sealed_deadline")
async def test_a_sealed_batch_past_its_deadline_is_answered(database: str) -> None:
    """Off: it waits for its tokens for ever."""
    async with migrated(database) as pool:
        late = await batch_until(pool, time.time() - 1)
        early = await batch_until(pool, time.time() + 3600)
        for batch_id in await submitter(pool).past_deadline():
            assert await submitter(pool).expire(batch_id)
        assert await answered(pool) == [(2, "deadline_exceeded")], "it waits on"
        async with pool.transaction() as connection:
            states = [(await load_batch(connection, each)).state for each in (late, early)]
        assert states == [BatchState.SPLIT, BatchState.SEALED]


@pytest.mark.defence("unsealed_deadline")
async def test_what_waits_in_a_halted_lane_is_answered_past_its_deadline(database: str) -> None:
    """Off: it waits until an operator resumes the lane."""
    async with migrated(database) as pool:
        drain = asyncio.Event()
        keeper = LeaseKeeper(drain, LeaseStore(pool, uuid.uuid4(), 60.0))
        lanes, label = Lanes(), "other"
        census = Census(
            drain,
            CensusStore(pool),
            keeper,
            generation=1,
            lanes=lanes,
            accounts={},
            database_bytes_max=1,
            look_up_seconds=20,
            lane_label=lambda _: label,
        )
        sealer = Sealer(
            drain,
            WindowStore(pool),
            keeper,
            census,
            lanes,
            slots=SLOTS,
            creates_per_hour={ACCOUNT: 2000},
            usd_per_day={},
            backlog_limits={},
            lane_label=lambda _: label,
        )
        await store(pool, chunk_of(3, deadline=time.time() - 1), chunk_of(2, deadline=time.time() + 3600))
        async with pool.pool.acquire() as connection:
            await connection.execute("UPDATE lane SET halted_reason = 'a test'")
        await sealer.round()
        assert await answered(pool) == [(3, "deadline_exceeded")], "it waits on"
