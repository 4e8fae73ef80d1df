"""What waits in a lane: until when, for which replica, and under which ids."""

import asyncio
import uuid

import asyncpg
import pytest

from penstock.core.lane import LanePolicy, Lanes
from penstock.postgres.census_store import CensusStore
from penstock.postgres.collector_store import CollectorStore
from penstock.postgres.database import Database
from penstock.postgres.intake_store import store_chunks
from penstock.postgres.lease_store import LeaseStore
from penstock.postgres.submitter_store import SubmitterStore
from penstock.postgres.window_store import WindowStore
from penstock.stages.census import Census
from penstock.stages.lease import LeaseKeeper
from penstock.stages.sealer import Sealer
from tests.support.rows import ACCOUNT, batch_of, chunk_of, held, migrated, open_lane, opened, seal_all, store

SLOTS = 4
AT_ONCE = Lanes(defaults=LanePolicy(age_max_seconds=0))


async def open_requests(pool: Database) -> list[int]:
    """The requests of each window that a sealer would look at."""
    return [each.size.requests for each in await WindowStore(pool).windows()]


@pytest.mark.defence("not_before")
async def test_another_try_is_in_no_window_before_its_time(database: str) -> None:
    """Off: its time is not looked at."""
    async with migrated(database) as pool:
        lane_id = await open_lane(pool)
        async with pool.transaction() as connection:
            await store_chunks(connection, [(lane_id, chunk_of(3, attempt=1))], delay_seconds=60.0)
        assert await open_requests(pool) == [], "a window holds it"
        assert await seal_all(pool, lane_id) == []
        async with pool.pool.acquire() as connection:
            await connection.execute("UPDATE chunk SET not_before = clock_timestamp()")
        assert await open_requests(pool) == [3]


@pytest.mark.defence("newest_generation")
async def test_a_replica_leaves_sealing_and_granting_to_those_that_have_newer_limits(database: str) -> None:
    """Off: it goes on with its own."""
    async with migrated(database) as pool:
        drain, sealers = asyncio.Event(), []
        for generation in (1, 2):
            keeper = LeaseKeeper(drain, LeaseStore(pool, uuid.uuid4(), 60.0))
            census = Census(
                drain,
                CensusStore(pool),
                keeper,
                generation=generation,
                lanes=AT_ONCE,
                accounts={},
                database_bytes_max=1,
                look_up_seconds=20,
                lane_label=lambda _: "other",
            )
            sealers.append(
                Sealer(
                    drain,
                    WindowStore(pool),
                    keeper,
                    census,
                    AT_ONCE,
                    slots=SLOTS,
                    creates_per_hour={ACCOUNT: 2000},
                    usd_per_day={},
                    backlog_limits={},
                    lane_label=lambda _: "other",
                )
            )
        for sealer in (*sealers, *sealers):
            await sealer.census.round()
        await store(pool, chunk_of(3))
        older, newer = sealers
        await older.round()
        assert await open_requests(pool) == [3], "the older one has sealed"
        await newer.round()
        assert await open_requests(pool) == []


@pytest.mark.defence("random_ids")
async def test_ids_made_before_a_fail_over_are_not_made_again_after_it(database: str) -> None:
    """What the database wrote last is lost with it, the provider keeps it. Off: ids come from a sequence."""

    async def ids(dsn: str) -> set[uuid.UUID]:
        """Those of a chunk, a batch and a create."""
        async with opened(dsn) as pool:
            batch_id = await batch_of(pool)
            submitter = SubmitterStore(pool, uuid.uuid4(), 60.0, SLOTS)
            lease = await held(pool, f"batch/{batch_id}")
            await submitter.store_file(lease, batch_id, "file")
            batch = await CollectorStore(pool, SLOTS).load(batch_id)
            create = await submitter.intend(lease, batch, 2000)
            assert create is not None
            return {batch_id, create, *(part.chunk_id for part in batch.parts)}

    async with migrated(database):
        pass
    name = database.rpartition("/")[2]
    server = await asyncpg.connect(database.removesuffix(name) + "postgres")
    await server.execute(f"CREATE DATABASE {name}_replica TEMPLATE {name}")
    try:
        before, after = await ids(database), await ids(f"{database}_replica")
    finally:
        await server.execute(f"DROP DATABASE {name}_replica WITH (force)")
        await server.close()
    assert len(before) == len(after) == 3
    assert not before & after, f"{len(before & after)} of {len(before)} ids were made again"
