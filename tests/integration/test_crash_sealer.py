"""Crash point 19, and what a replica that sleeps in a transaction may hold: straight against a real Postgres."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from penstock.core.errors import Superseded
from penstock.postgres.census_store import CensusStore
from penstock.postgres.intake_store import IntakeStore, Place, Span
from tests.support.crash import until
from tests.support.rows import CLUSTER, TOPIC, TOPIC_ID, chunk_of, migrated, opened, seal_all, store

BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
PLACE = Place(TOPIC_ID, 0)
WAIT_SECONDS = 30
UNREAD: set[asyncio.Future[Any]] = set()


@pytest.mark.defence("lane_lock_and_exact_count")
async def test_a_lane_that_two_replicas_seal_at_once_is_sealed_once(database: str) -> None:
    """Crash point 19: both have read the same chunks. Off: neither lock nor exact count (each alone suffices)."""
    async with migrated(database) as pool:
        lane_id = await store(pool, *(chunk_of(10) for _ in range(3)))
        gate = await asyncpg.connect(database)
        hold = gate.transaction()
        await hold.start()
        await gate.execute("SELECT 1 FROM chunk FOR UPDATE")
        sealing = [asyncio.create_task(seal_all(pool, lane_id)) for _ in range(2)]

        async def both_wait() -> bool:
            return bool(await pool.pool.fetchval(BLOCKED) == len(sealing))

        await until(both_wait)
        await hold.rollback()
        sealed = [batch for batches in await asyncio.gather(*sealing) for batch in batches]
        written = await gate.fetchval("SELECT sum(requests) FROM part")
        await gate.close()
    assert written == 30, f"{written} requests were sealed of 30"
    assert len(sealed) == 1


@pytest.mark.defence("idle_limit")
async def test_a_replica_that_sleeps_in_a_transaction_holds_nobody_up(database: str) -> None:
    """Crash point 4: asleep or cut off with positions locked. Off: an idle transaction lasts for ever."""
    async with migrated(database) as owner, opened(database, idle_seconds=1) as zombie:
        intake = IntakeStore(owner, CLUSTER)
        await intake.ensure_positions({PLACE: (TOPIC, 0)})
        async with zombie.pool.acquire() as connection:
            asleep = connection.transaction()
            await asleep.start()
            await connection.execute("SELECT 1 FROM position FOR UPDATE")
            waiting = asyncio.ensure_future(intake.store({PLACE: Span(0, 10)}, []))
            done, _ = await asyncio.wait([waiting], timeout=WAIT_SECONDS)
            assert done, f"the owner still waits after {WAIT_SECONDS} s"
            with pytest.raises((asyncpg.InterfaceError, asyncpg.PostgresError, OSError)):
                await asleep.commit()
        with pytest.raises(Superseded):
            await IntakeStore(zombie, CLUSTER).store({PLACE: Span(0, 10)}, [])


async def before_execution(connection: Any) -> None:
    """Asleep when a statement is parsed: the server takes it for active, and waits for the client."""
    await connection.prepare("SELECT 1")


async def amid_rows(connection: Any) -> None:
    """Asleep while the server sends what nobody reads."""
    statement = await connection.prepare("SELECT repeat('x', 100000) FROM generate_series(1, 1000)")
    connection._transport.pause_reading()  # noqa: SLF001 - that is what sleeping does to a connection
    UNREAD.add(asyncio.ensure_future(statement.fetch()))


@pytest.mark.defence("sleepers_end")
@pytest.mark.parametrize("fall_asleep", [before_execution, amid_rows])
async def test_a_replica_that_sleeps_amid_a_statement_loses_its_locks_at_anothers_heartbeat(
    database: str, fall_asleep: Callable[[Any], Awaitable[None]]
) -> None:
    """Crash point 4. Off: nobody ends what the server does not take for idle."""
    async with migrated(database) as zombie, opened(database, idle_seconds=1) as owner:
        intake = IntakeStore(owner, CLUSTER)
        await intake.ensure_positions({PLACE: (TOPIC, 0)})
        connection = await zombie.pool.acquire()
        await connection.transaction().start()
        await connection.execute("SELECT 1 FROM position FOR UPDATE")
        await fall_asleep(connection)
        waiting = asyncio.ensure_future(intake.store({PLACE: Span(0, 10)}, []))
        await asyncio.wait([waiting], timeout=2)
        assert not waiting.done()
        await CensusStore(owner).heartbeat(uuid.uuid4(), 1, b"")
        done, _ = await asyncio.wait([waiting], timeout=WAIT_SECONDS)
        zombie.pool.terminate()
        await asyncio.gather(*UNREAD, return_exceptions=True)
        UNREAD.clear()
        assert done, f"the owner still waits after {WAIT_SECONDS} s"
        await waiting
