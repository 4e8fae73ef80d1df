import asyncio
import uuid
from collections.abc import Callable

import pytest

from penstock.core.batch import BatchState
from penstock.core.lane import LaneKey
from penstock.core.token import HEADROOM, expected
from penstock.core.turn import Priority, Turn
from penstock.postgres.batch_row import BatchRow, load_batch
from penstock.postgres.census_store import CensusStore
from penstock.postgres.collector_store import CollectorStore
from penstock.postgres.database import Database
from penstock.postgres.submitter_store import SubmitterStore
from penstock.stages.lease import Lease
from tests.support.rows import ACCOUNT, LANE, batch_of, chunk_of, migrated, seal_all, store

STUCK = """
UPDATE batch SET provider_status = 'validating', provider_open = true, submitted_at = now() - interval '16 minutes'
WHERE id = $1
"""


def submitter(pool: Database) -> SubmitterStore:
    return SubmitterStore(pool, uuid.uuid4(), 60.0, 4)


def limit(tokens: int | None) -> Callable[[LaneKey, int | None], int | None]:
    return lambda _, learned: tokens if tokens is not None else learned


async def reserve(pool: Database, tokens: int | None, model: str = LANE.model) -> int:
    return await submitter(pool).reserve(ACCOUNT, model, limit(tokens))


async def reserved(pool: Database) -> dict[uuid.UUID, int]:
    async with pool.pool.acquire() as connection:
        return {row["batch_id"]: row["tokens"] for row in await connection.fetch("SELECT * FROM reservation")}


async def release(pool: Database, batch_id: uuid.UUID) -> int:
    async with pool.transaction() as connection:
        return await connection.execute("delete_reservation", [batch_id])


async def finish(pool: Database, batch_id: uuid.UUID) -> None:
    """End a batch, with its reservation."""
    async with pool.transaction() as connection:
        await connection.execute("delete_reservation", [batch_id])
        await connection.execute("move_to_ended", batch_id, "done", "")


async def accept(pool: Database, batch_id: uuid.UUID, status: str = "in_progress") -> None:
    """Let the provider have a batch, in this status."""
    async with pool.pool.acquire() as connection:
        await connection.execute("UPDATE batch SET provider_status = $2 WHERE id = $1", batch_id, status)


async def pass_validation(pool: Database, *batch_ids: uuid.UUID) -> None:
    """Let the provider begin to work on batches."""
    for batch_id in batch_ids:
        await accept(pool, batch_id)
    async with pool.transaction() as connection:
        await connection.execute("raise_validating_max", list(batch_ids))


async def batches(pool: Database) -> list[BatchRow]:
    """Every batch, oldest first."""
    async with pool.transaction() as connection:
        ids = await connection.raw.fetch("SELECT id FROM batch ORDER BY sealed_at, id")
        return [await load_batch(connection, row["id"]) for row in ids]


@pytest.mark.defence("oldest_first")
async def test_the_oldest_batches_are_granted_first(database: str) -> None:
    async with migrated(database) as pool:
        sealed = [await batch_of(pool, 10, tokens=10) for _ in range(4)]
        each = expected(100, 1.0)
        assert await reserve(pool, 2 * each) == 2
        assert await reserved(pool) == dict.fromkeys(sealed[:2], each), "others than the oldest were granted"
        assert await reserve(pool, 2 * each) == 0
        await finish(pool, sealed[1])
        assert await reserve(pool, 2 * each) == 1
        assert set(await reserved(pool)) == {sealed[0], sealed[2]}


@pytest.mark.defence("priority_first")
async def test_a_higher_priority_is_granted_and_claimed_before_what_is_older(database: str) -> None:
    async with migrated(database) as pool:
        low, usual, older = [
            await batch_of(pool, turn=Turn(priority)) for priority in (Priority.LOW, Priority.NORMAL, Priority.NORMAL)
        ]
        high = await batch_of(pool, turn=Turn(Priority.HIGH))
        each = expected(20, 1.0)
        assert await reserve(pool, 2 * each) == 2
        assert set(await reserved(pool)) == {high, usual}, "others than the first were granted"
        assert await reserve(pool, 4 * each) == 2
        claims = [await submitter(pool).claim(ACCOUNT, 60.0) for _ in range(4)]
        assert [claim.batch.id for claim in claims if claim] == [high, usual, older, low]


async def test_a_batch_has_the_first_priority_of_its_chunks_and_a_piece_that_of_its_own(database: str) -> None:
    async with migrated(database) as pool:
        turns = Turn(Priority.LOW), Turn(Priority.HIGH, 3)
        lane_id = await store(pool, *(chunk_of(50, tokens=10, turn=turn) for turn in turns))
        await seal_all(pool, lane_id)
        assert await reserve(pool, 400) == 1
        async with pool.pool.acquire() as connection:
            rows = await connection.fetch("SELECT state, priority FROM batch")
        assert {row["priority"] for row in rows if row["state"] == "split"} == {Priority.HIGH}
        assert {row["priority"] for row in rows if row["state"] == "sealed"} == {Priority.HIGH, Priority.LOW}


async def test_a_young_small_batch_does_not_overtake_an_old_large_one(database: str) -> None:
    async with migrated(database) as pool:
        running, large, small = [await batch_of(pool, 1, tokens=tokens) for tokens in (50, 80, 1)]
        assert await reserve(pool, 120) == 1
        assert set(await reserved(pool)) == {running}
        await finish(pool, running)
        assert await reserve(pool, 120) == 2
        assert set(await reserved(pool)) == {large, small}


@pytest.mark.defence("reservation_by_batch")
@pytest.mark.outcome("limit-tokens-released")
async def test_tokens_released_twice_are_released_once(database: str) -> None:
    async with migrated(database) as pool:
        first, second = await batch_of(pool), await batch_of(pool)
        assert await reserve(pool, 10**6) == 2
        assert await release(pool, first) == 1
        assert await release(pool, first) == 0, "releasing it again gave back the tokens of another batch"
        assert set(await reserved(pool)) == {second}


async def test_models_have_limits_of_their_own(database: str) -> None:
    async with migrated(database) as pool:
        await batch_of(pool, 1, tokens=80)
        other = await batch_of(pool, 1, tokens=80, lane=LANE._replace(model="other"))
        assert await reserve(pool, 100) == 1
        assert await reserve(pool, 100, "other") == 1
        assert other in await reserved(pool)


@pytest.mark.outcome("limit-tokens")
async def test_replicas_that_reserve_at_once_stay_within_the_limit(database: str) -> None:
    async with migrated(database) as pool:
        for _ in range(8):
            await batch_of(pool, 1, tokens=20)
        granted = await asyncio.gather(*(reserve(pool, 60) for _ in range(6)))
        assert sum(granted) == 2
        assert sum((await reserved(pool)).values()) <= 60


@pytest.mark.defence("cut_to_limit")
async def test_a_batch_over_the_limit_in_force_is_cut_in_the_same_transaction(database: str) -> None:
    async with migrated(database) as pool:
        whole = await batch_of(pool, 100, tokens=10)
        assert await reserve(pool, 400) == 1
        parent, *pieces = sorted(await batches(pool), key=lambda each: each.state is not BatchState.SPLIT)
        assert (parent.id, parent.parts) == (whole, ()), "the batch stays whole"
        assert sum(piece.size.requests for piece in pieces) == 100
        assert all(piece.root_id == piece.id and piece.sealed_at == parent.sealed_at for piece in pieces)
        assert all(piece.size.tokens * HEADROOM <= 100 for piece in pieces)
        indexes = [n for piece in pieces for part in piece.parts for n in range(part.first, part.first + part.requests)]
        assert sorted(indexes) == list(range(100))
        assert await reserved(pool) == {}
        assert await reserve(pool, 400) >= 3
        assert sum((await reserved(pool)).values()) <= 400


@pytest.mark.defence("alone_when_idle")
async def test_a_request_over_the_limit_goes_alone_on_an_idle_model(database: str) -> None:
    async with migrated(database) as pool:
        running, large = await batch_of(pool, 1, tokens=50), await batch_of(pool, 1, tokens=500)
        assert await reserve(pool, 100) == 1
        assert await reserve(pool, 100) == 0
        await finish(pool, running)
        assert await reserve(pool, 100) == 1, "the request was not granted on an idle model"
        assert set(await reserved(pool)) == {large}


async def test_a_limit_that_was_hit_and_not_named_is_probed_by_one_batch_at_a_time(database: str) -> None:
    async with migrated(database) as pool:
        sealed = [await batch_of(pool) for _ in range(3)]
        collector = CollectorStore(pool, 4)
        await collector.learn_limit(ACCOUNT, LANE.model, None)
        assert [await reserve(pool, None), await reserve(pool, None)] == [1, 0]
        assert set(await reserved(pool)) == {sealed[0]}
        await accept(pool, sealed[0])
        assert await reserve(pool, None) == 0
        await collector.calibrate(ACCOUNT, LANE.model, 100, 100)
        assert await reserve(pool, None) == 1
        assert set(await reserved(pool)) == set(sealed[:2])


async def test_while_no_limit_is_known_one_batch_at_a_time_waits_for_the_providers_word(database: str) -> None:
    async with migrated(database) as pool:
        sealed = [await batch_of(pool) for _ in range(3)]
        assert [await reserve(pool, None), await reserve(pool, None)] == [1, 0]
        await accept(pool, sealed[0], "validating")
        assert await reserve(pool, None) == 0
        await accept(pool, sealed[0])
        assert [await reserve(pool, None), await reserve(pool, None)] == [1, 0]
        assert set(await reserved(pool)) == set(sealed[:2])


@pytest.mark.outcome("limit-tokens-unknown")
async def test_while_no_limit_is_known_each_batch_past_validation_doubles_how_many_are_validated(database: str) -> None:
    async with migrated(database) as pool:
        sealed = [await batch_of(pool) for _ in range(8)]
        assert await reserve(pool, None) == 1
        await pass_validation(pool, sealed[0])
        assert await reserve(pool, None) == 2
        await pass_validation(pool, *sealed[1:3])
        assert await reserve(pool, None) == 5, "eight at a time, as far as there are batches"
        await CollectorStore(pool, 4).learn_limit(ACCOUNT, LANE.model, 10**9)
        assert [row["validating_max"] for row in await pool.fetch("lock_quota", ACCOUNT, LANE.model, 60.0)] == [1]


@pytest.mark.defence("validating_late")
@pytest.mark.outcome("limit-validating")
async def test_a_batch_that_stays_in_validation_holds_up_no_other_for_ever_and_is_reported(database: str) -> None:
    """Off: it blocks its model for as long as it is validated."""
    async with migrated(database) as pool:
        stuck, other = await batch_of(pool), await batch_of(pool)
        assert await reserve(pool, None) == 1
        async with pool.pool.acquire() as connection:
            await connection.execute(STUCK, stuck)
        assert await reserve(pool, None) == 1, "the model stands still"
        assert set(await reserved(pool)) == {stuck, other}
        assert (await CensusStore(pool).gauges()).validating_late == {ACCOUNT: 1}


@pytest.mark.outcome("given-up-tokens")
async def test_a_batch_that_was_given_up_an_hour_ago_holds_up_no_other(database: str) -> None:
    async with migrated(database) as pool:
        first, second = [await batch_of(pool, 10, tokens=10) for _ in range(2)]
        each = expected(100, 1.0)
        assert await reserve(pool, each) == 1
        given_up = "UPDATE batch SET abandoned_at = now() - make_interval(mins => $2) WHERE id = $1"
        for minutes, granted in ((59, 0), (61, 1)):
            async with pool.pool.acquire() as connection:
                await connection.execute(given_up, first, minutes)
            assert await reserve(pool, each) == granted
        assert set(await reserved(pool)) == {first, second}


async def test_a_learned_limit_is_asked_for_again_after_a_day(database: str) -> None:
    async with migrated(database) as pool:
        for _ in range(3):
            await batch_of(pool, 1, tokens=10)
        await CollectorStore(pool, 4).learn_limit(ACCOUNT, LANE.model, 20)
        assert [await reserve(pool, None), await reserve(pool, None)] == [1, 0]
        async with pool.pool.acquire() as connection:
            await connection.execute("UPDATE quota SET learned_at = learned_at - interval '25 hours'")
            await connection.execute("UPDATE batch SET provider_status = 'in_progress'")
        assert await reserve(pool, None) == 1


async def test_a_limit_that_was_learned_is_kept_when_a_later_refusal_names_none(database: str) -> None:
    async with migrated(database) as pool:
        await batch_of(pool, 1, tokens=10), await batch_of(pool, 1, tokens=10)
        collector = CollectorStore(pool, 4)
        await collector.learn_limit(ACCOUNT, LANE.model, 20)
        await collector.learn_limit(ACCOUNT, LANE.model, None)
        assert await reserve(pool, None) == 1


async def test_a_refusal_under_the_limit_in_force_raises_the_estimate(database: str) -> None:
    """Off: what seems to fit and does not is sent again and again as it was."""
    async with migrated(database) as pool:
        for _ in range(2):
            await batch_of(pool, 1, tokens=40)
        collector = CollectorStore(pool, 4)
        await collector.learn_limit(ACCOUNT, LANE.model, 100)
        assert [row["factor"] for row in await pool.fetch("lock_quota", ACCOUNT, LANE.model, 60.0)] == [1.0]
        await collector.learn_limit(ACCOUNT, LANE.model, 100)
        await collector.learn_limit(ACCOUNT, LANE.model, 90, 100)
        assert [row["factor"] for row in await pool.fetch("lock_quota", ACCOUNT, LANE.model, 60.0)] == [1.25]
        assert await reserve(pool, 100) == 1, "two of 40 tokens were thought to fit under 100"


async def test_a_poll_of_a_lane_with_a_small_limit_drains_batch_by_batch(database: str) -> None:
    async with migrated(database) as pool:
        lane_id = await store(pool, chunk_of(500, tokens=250))
        await seal_all(pool, lane_id)
        done = 0
        while await reserve(pool, 9_000):
            running = await reserved(pool)
            assert sum(running.values()) <= 9_000
            for batch_id in running:
                await finish(pool, batch_id)
            done += len(running)
        ended = [each for each in await batches(pool) if each.state is BatchState.ENDED]
        assert len(ended) == done > 10
        assert sum(each.size.requests for each in ended) == 500


@pytest.mark.outcome("creates-per-hour")
async def test_replicas_that_announce_creates_at_once_stay_within_the_hours_budget(database: str) -> None:
    async with migrated(database) as pool, migrated(database) as other:
        batch_ids = [await batch_of(pool) for _ in range(8)]
        assert await reserve(pool, 10**6) == len(batch_ids)
        stores = [submitter(each) for each in (pool, other)]
        claims = [await stores[0].claim(ACCOUNT, 60.0) for _ in batch_ids]

        async def announce(number: int) -> bool:
            claim = claims[number]
            assert claim is not None
            lease = Lease(f"batch/{claim.batch.id}", claim.epoch, 60.0, float("inf"), 0.0)
            await stores[number % 2].store_file(lease, claim.batch.id, "file-1")
            return await stores[number % 2].intend(lease, claim.batch, 3) is not None

        assert sorted(await asyncio.gather(*map(announce, range(8)))) == [False] * 5 + [True] * 3
