import asyncio
import time
import uuid
from datetime import timedelta

import pytest

from penstock.core.batch import BatchState, Verdict
from penstock.core.errors import Superseded
from penstock.postgres.batch_row import load_batch
from penstock.postgres.database import Database
from penstock.postgres.lease_store import LeaseStore
from penstock.postgres.submitter_store import SubmitterStore
from penstock.stages.lease import STALL_FACTOR, Lease, LeaseKeeper
from tests.support.rows import batch_of, held, migrated


async def run_out(pool: Database, name: str) -> None:
    """Let a lease's time pass."""
    async with pool.pool.acquire() as connection:
        await connection.execute(
            "UPDATE lease SET expires_at = clock_timestamp() - $2::interval WHERE name = $1",
            name,
            timedelta(milliseconds=1),
        )


def holder(pool: Database) -> LeaseStore:
    return LeaseStore(pool, uuid.uuid4(), 60.0)


def lease(name: str, epoch: int) -> Lease:
    return Lease(name, epoch, 60.0, float("inf"), 0.0)


async def guarded(pool: Database, *, by: Lease) -> None:
    async with pool.transaction(by) as connection:
        await connection.value("database_clock")


async def test_a_lease_has_one_holder_at_a_time(database: str) -> None:
    async with migrated(database) as pool:
        one, other = holder(pool), holder(pool)
        assert await one.acquire_lease("role") == 1
        assert await other.acquire_lease("role") is None
        assert await one.acquire_lease("role") is None
        assert await other.acquire_lease("another role") == 1


async def test_a_lease_that_ran_out_goes_to_the_next_with_a_higher_epoch(database: str) -> None:
    async with migrated(database) as pool:
        assert await holder(pool).acquire_lease("role") == 1
        await run_out(pool, "role")
        assert await holder(pool).acquire_lease("role") == 2
        await run_out(pool, "role")
        assert await holder(pool).acquire_lease("role") == 3


async def test_a_lease_that_was_given_back_is_free_at_once(database: str) -> None:
    async with migrated(database) as pool:
        store = holder(pool)
        assert await store.acquire_lease("role") == 1
        await store.release_lease(lease("role", 1))
        assert await holder(pool).acquire_lease("role") == 2
        await store.release_lease(lease("role", 1))  # late, of an epoch that is over
        assert await holder(pool).acquire_lease("role") is None


async def test_only_leases_that_are_still_ours_are_renewed(database: str) -> None:
    async with migrated(database) as pool:
        store = holder(pool)
        for name in ("mine", "late", "taken", "released"):
            assert await store.acquire_lease(name) == 1
        for name in ("late", "taken"):
            await run_out(pool, name)
        assert await holder(pool).acquire_lease("taken") == 2
        await store.release_lease(lease("released", 1))
        wanted = [lease(name, 1) for name in ("mine", "late", "taken", "released", "unknown")]
        assert await store.renew_leases(wanted) == {"mine": True, "late": True}
        assert await holder(pool).acquire_lease("late") is None
        assert await holder(pool).acquire_lease("released") == 2


async def test_a_long_guarded_write_does_not_keep_the_other_leases_from_being_renewed(database: str) -> None:
    async with migrated(database) as pool:
        store = holder(pool)
        for name in ("busy", "idle"):
            assert await store.acquire_lease(name) == 1
        both = [lease("busy", 1), lease("idle", 1)]
        async with pool.transaction(both[0]), asyncio.timeout(60):
            assert await store.renew_leases(both) == {"busy": False, "idle": True}
        assert await store.renew_leases(both) == {"busy": True, "idle": True}


async def test_a_guarded_write_stands_until_another_took_the_lease(database: str) -> None:
    async with migrated(database) as pool:
        mine = await held(pool, "role")
        await guarded(pool, by=mine)
        await run_out(pool, "role")
        await guarded(pool, by=mine)
        theirs = await held(pool, "role")
        await guarded(pool, by=theirs)
        with pytest.raises(Superseded):
            await guarded(pool, by=mine)


async def test_nothing_is_written_under_a_lease_that_was_given_back_or_never_taken(database: str) -> None:
    async with migrated(database) as pool:
        mine = await held(pool, "role")
        await holder(pool).release_lease(mine)
        for each in (mine, lease("nobody's", 1)):
            with pytest.raises(Superseded):
                await guarded(pool, by=each)


async def test_a_takeover_waits_for_a_guarded_write_and_the_next_one_is_refused(database: str) -> None:
    async with migrated(database) as pool:
        mine, batch_id = await held(pool, "role"), await batch_of(pool)
        submitter = SubmitterStore(pool, uuid.uuid4(), 60.0, 4)
        await run_out(pool, "role")
        async with pool.transaction(mine) as connection:
            await connection.execute("store_file", batch_id, "file-1")
            async with pool.pool.acquire() as rival:
                await rival.execute("SET lock_timeout = '50ms'")
                with pytest.raises(Exception, match="lock timeout"):
                    await rival.execute("UPDATE lease SET epoch = epoch + 1 WHERE name = 'role'")
                await rival.execute("RESET lock_timeout")
        await held(pool, "role")
        with pytest.raises(Superseded):
            await submitter.answer(mine, batch_id, Verdict("late", "too late"))
        async with pool.transaction() as connection:
            batch = await load_batch(connection, batch_id)
        assert (batch.state, batch.file_id, batch.verdict) == (BatchState.SEALED, "file-1", None)


async def test_a_write_needs_the_state_it_stands_on(database: str) -> None:
    async with migrated(database) as pool:
        mine, batch_id = await held(pool, "role"), await batch_of(pool)
        submitter = SubmitterStore(pool, uuid.uuid4(), 60.0, 4)
        await submitter.answer(mine, batch_id, Verdict("x", "y"))
        with pytest.raises(Superseded):
            await submitter.answer(mine, batch_id, Verdict("x", "y"))
        with pytest.raises(Superseded):
            await submitter.store_file(mine, uuid.uuid4(), "file-1")


@pytest.mark.defence("renewal_bounds")
async def test_work_that_stands_still_or_takes_too_long_loses_its_lease(database: str) -> None:
    """Off: it is renewed as long as the process lives, and nobody takes over."""
    seconds = 0.2
    async with migrated(database) as pool:
        keeper = LeaseKeeper(asyncio.Event(), LeaseStore(pool, uuid.uuid4(), seconds))
        rival = LeaseStore(pool, uuid.uuid4(), seconds)
        await keeper.acquire("stuck")
        endless = await keeper.acquire("endless", work_seconds_max=seconds * 4)
        moving = await keeper.acquire("moving")
        taken: set[str] = set()
        started = time.monotonic()
        while time.monotonic() < started + seconds * STALL_FACTOR * 10 and len(taken) < 2:
            for each in filter(None, (endless, moving)):
                each.progressed_at = time.monotonic()
            await keeper.round()
            taken |= {name for name in ("stuck", "endless") if await rival.acquire_lease(name)}
            await asyncio.sleep(seconds / 10)
        assert taken == {"stuck", "endless"}, f"nobody else got {' or '.join(sorted({'stuck', 'endless'} - taken))}"
        assert moving is not None
        moving.progressed_at, until = time.monotonic(), moving.held_until
        await keeper.round()
        assert moving.held_until > until
        assert not moving.lost


async def test_a_lease_that_somebody_has_locked_is_not_waited_for(database: str) -> None:
    """Whoever asks holds other things meanwhile."""
    async with migrated(database) as pool:
        await held(pool, "role")
        await run_out(pool, "role")
        async with pool.pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM lease WHERE name = 'role' FOR UPDATE")
            assert await asyncio.wait_for(holder(pool).acquire_lease("role"), 20) is None
        assert await holder(pool).acquire_lease("role") == 2
