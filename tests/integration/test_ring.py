import asyncio
import itertools
import os
import uuid

import pytest

from penstock.core.chunk import NewChunk, decode_lines
from penstock.core.errors import Superseded
from penstock.postgres.batch_row import ChunkReader
from penstock.postgres.database import Database
from penstock.postgres.janitor_store import MANIFEST, PAYLOAD, PORTION, JanitorStore, Ring
from penstock.stages.lease import Lease
from tests.support.rows import chunk_of, held, migrated, store

RINGS = [PAYLOAD, MANIFEST]
RING_BYTES = """
SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits
WHERE inhparent IN ('payload'::regclass, 'manifest'::regclass)
"""


async def close(pool: Database, *chunks: NewChunk) -> None:
    """Close chunks as their publishing does, or forget them when their history is over."""
    async with pool.pool.acquire() as connection:
        await connection.execute("UPDATE chunk SET closed_at = now() WHERE id = ANY($1)", [each.id for each in chunks])


async def forget(pool: Database) -> None:
    async with pool.transaction() as connection:
        await connection.execute("delete_chunks", 0.0)


async def kept(pool: Database, ring: Ring) -> dict[int, set[uuid.UUID]]:
    """The chunks in each table of a ring."""
    async with pool.pool.acquire() as connection:
        found: dict[int, set[uuid.UUID]] = {}
        for row in await connection.fetch(f"SELECT turn, chunk_id FROM {ring.name}"):
            found.setdefault(row["turn"], set()).add(row["chunk_id"])
        return found


async def turns_of(pool: Database, ring: Ring) -> int:
    async with pool.pool.acquire() as connection:
        turns: int = await connection.fetchval("SELECT turns FROM ring WHERE name = $1", ring.name)
        return turns


async def go_round(pool: Database, lease: Lease, ring: Ring, times: int = 1) -> None:
    for _ in range(times):
        assert await JanitorStore(pool).turn(lease, ring, 0.0)


@pytest.mark.parametrize("ring", RINGS, ids=lambda ring: ring.name)
async def test_a_ring_turns_only_when_it_is_time(database: str, ring: Ring) -> None:
    async with migrated(database) as pool:
        lease = await held(pool, "janitor")
        assert not await JanitorStore(pool).turn(lease, ring, 3600.0)
        assert await JanitorStore(pool).turn(lease, ring, 0.0)


@pytest.mark.parametrize("ring", RINGS, ids=lambda ring: ring.name)
async def test_what_is_still_needed_is_copied_forward_before_its_table_is_emptied(database: str, ring: Ring) -> None:
    async with migrated(database) as pool:
        lease, straggler, done = await held(pool, "janitor"), chunk_of(3), chunk_of(2)
        await store(pool, straggler, done)
        await close(pool, done)
        turns = await turns_of(pool, ring)
        await go_round(pool, lease, ring, turns - 1)
        assert await kept(pool, ring) == {0: {straggler.id, done.id}}
        if ring is MANIFEST:  # kept as long as its requests are findable
            await forget(pool)
        await go_round(pool, lease, ring)
        assert await kept(pool, ring) == {turns - 1: {straggler.id}}
        await go_round(pool, lease, ring, turns)
        assert await kept(pool, ring) == {turns - 2: {straggler.id}}
        reader = ChunkReader(pool)
        assert await reader.payload(straggler.id) == straggler.lines
        assert (await reader.manifest(straggler.id)).requests == 3


@pytest.mark.parametrize("ring", RINGS, ids=lambda ring: ring.name)
@pytest.mark.defence("open_chunks")
async def test_only_tables_that_nothing_needs_are_emptied(database: str, ring: Ring) -> None:
    async with migrated(database) as pool:
        lease, janitor = await held(pool, "janitor"), JanitorStore(pool)
        needed, done, current = chunk_of(1), chunk_of(1), chunk_of(1)
        for chunk in (needed, done, current):
            await store(pool, chunk)
            if chunk is not current:
                await go_round(pool, lease, ring)
        await close(pool, done, current)
        await forget(pool)
        emptied = await janitor.truncate(lease, ring)
        assert emptied == 1, f"{emptied} tables were emptied, of which one was needed by nothing"
        assert await kept(pool, ring) == {0: {needed.id}, 2: {current.id}}
        assert await janitor.truncate(lease, ring) == 0


async def test_a_janitor_that_lost_its_lease_turns_and_empties_nothing(database: str) -> None:
    async with migrated(database) as pool:
        lease, done = await held(pool, "janitor"), chunk_of(1)
        await store(pool, done)
        await go_round(pool, lease, PAYLOAD)
        await close(pool, done)
        lease.epoch += 1
        for act in (JanitorStore(pool).turn(lease, PAYLOAD, 0.0), JanitorStore(pool).truncate(lease, PAYLOAD)):
            with pytest.raises(Superseded):
                await act
        assert await kept(pool, PAYLOAD) == {0: {done.id}}


async def test_readers_and_writers_go_on_while_the_ring_turns(database: str) -> None:
    """Every chunk is read whole at any time; what intake stores meanwhile is kept."""
    async with migrated(database, connections_max=8) as pool:
        lease, chunks = await held(pool, "janitor"), [chunk_of(5) for _ in range(10)]
        await store(pool, *chunks)
        turned = asyncio.Event()

        async def read() -> None:
            reader = ChunkReader(pool)
            for chunk in itertools.cycle(chunks):
                assert await reader.payload(chunk.id) == chunk.lines
                assert (await reader.manifest(chunk.id)).requests == chunk.size.requests
                if turned.is_set():
                    return

        async def write() -> None:
            while not turned.is_set():
                more = chunk_of(5)
                await store(pool, more)
                chunks.append(more)

        async def turn() -> None:
            for _ in range(await turns_of(pool, PAYLOAD) + 5):
                await go_round(pool, lease, PAYLOAD)
                await go_round(pool, lease, MANIFEST)
                await JanitorStore(pool).truncate(lease, PAYLOAD)
            turned.set()

        async with asyncio.TaskGroup() as group:
            for work in (read(), read(), write(), turn()):
                group.create_task(work)
        for ring in RINGS:
            tables = await kept(pool, ring)
            assert set().union(*tables.values()) == {each.id for each in chunks}
        assert sum(map(len, (await kept(pool, PAYLOAD)).values())) == len(chunks)


async def test_a_busy_table_is_tried_again_and_nothing_waits_long_for_it(database: str) -> None:
    async with migrated(database) as pool:
        lease, straggler = await held(pool, "janitor"), chunk_of(1)
        await store(pool, straggler)
        await go_round(pool, lease, PAYLOAD, await turns_of(pool, PAYLOAD) - 1)
        async with pool.pool.acquire() as connection, connection.transaction():
            await connection.fetch("SELECT FROM payload_0")
            with pytest.raises(Exception, match="lock timeout"):
                await JanitorStore(pool).turn(lease, PAYLOAD, 0.0)
            assert await ChunkReader(pool).payload(straggler.id) == straggler.lines
        await go_round(pool, lease, PAYLOAD)


async def test_stragglers_go_forward_in_portions_and_one_that_is_busy_is_waited_for(database: str) -> None:
    async with migrated(database) as pool:
        lease, stragglers, moved = await held(pool, "janitor"), [chunk_of(1) for _ in range(PORTION + 3)], []
        await store(pool, *stragglers)
        last = await turns_of(pool, PAYLOAD) - 1
        await go_round(pool, lease, PAYLOAD, last)
        async with pool.pool.acquire() as connection, connection.transaction():
            await connection.fetch("SELECT FROM chunk WHERE id = $1 FOR UPDATE", stragglers[0].id)
            assert not await JanitorStore(pool).turn(lease, PAYLOAD, 0.0, lambda: moved.append(1))
            assert await ChunkReader(pool).payload(stragglers[0].id) == stragglers[0].lines
            assert await ChunkReader(pool).payload(stragglers[1].id) == stragglers[1].lines
        assert len(moved) == 2
        await go_round(pool, lease, PAYLOAD)
        assert await kept(pool, PAYLOAD) == {last: {each.id for each in stragglers}}


async def test_the_size_on_disk_does_not_grow_over_ten_rounds_of_the_ring_with_stragglers(database: str) -> None:
    """One chunk of ten is needed for a round and a half of the ring, so its table is copied forward and emptied."""
    turns, body = 4, b'{"model":"m","input":"%b"}'
    async with migrated(database) as pool:
        lease, janitor, sizes = await held(pool, "janitor"), JanitorStore(pool), []
        stragglers: list[NewChunk] = []
        async with pool.pool.acquire() as connection:
            await connection.execute("UPDATE ring SET turns = $1", turns)
        for turn in range(10 * turns):
            chunks = [chunk_of(5, body=body % os.urandom(10_000).hex().encode()) for _ in range(10)]
            await store(pool, *chunks)
            stragglers.append(chunks.pop())
            await close(pool, *chunks)
            if turn >= turns * 3 // 2:
                await close(pool, stragglers.pop(0))
            await forget(pool)
            for ring in RINGS:
                await go_round(pool, lease, ring)
                await janitor.truncate(lease, ring)
            async with pool.pool.acquire() as connection:
                sizes.append(await connection.fetchval(RING_BYTES))
        reader = ChunkReader(pool)
        assert [await reader.payload(each.id) for each in stragglers] == [each.lines for each in stragglers]
        # Postgres may keep a page more at a time; what is left behind each round would be most of it again by now.
        assert 10 * max(sizes[2 * turns :]) <= 11 * max(sizes[: 2 * turns])


async def test_a_chunk_that_is_gone_is_said_to_be_gone(database: str) -> None:
    async with migrated(database) as pool:
        with pytest.raises(Superseded):
            await ChunkReader(pool).manifest(uuid.uuid4())
        with pytest.raises(Exception, match="are gone"):
            await ChunkReader(pool).payload(uuid.uuid4())


async def test_what_is_stored_reads_back(database: str) -> None:
    async with migrated(database) as pool:
        chunk = chunk_of(3, body=b'{"t":"\\u0000 \xe2\x80\xa8"}')
        await store(pool, chunk)
        lines = decode_lines(await ChunkReader(pool).payload(chunk.id))
        assert lines == decode_lines(chunk.lines)
        assert (await ChunkReader(pool).manifest(chunk.id)).lengths == [len(lines) // 3] * 3
