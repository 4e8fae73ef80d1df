"""Batches that are cut to a token limit, and batches of a halted lane, as the database keeps them."""

import uuid

import pytest

from penstock.core.batch import BatchState
from penstock.postgres.batch_row import load_batch
from penstock.postgres.collector_store import CollectorStore
from penstock.postgres.database import Database
from penstock.postgres.submitter_store import SubmitterStore
from tests.support.rows import ACCOUNT, LANE, batch_of, held, migrated

ENDED = "UPDATE batch SET state = 'ended', ended_at = now(), file_id = 'refused' WHERE id = $1"


def submitter(database: Database) -> SubmitterStore:
    return SubmitterStore(database, uuid.uuid4(), 60.0, 4)


async def reserve(database: Database, limit: int = 10**6) -> int:
    return await submitter(database).reserve(ACCOUNT, LANE.model, lambda *_: limit)


@pytest.mark.defence("halted_lane_tokens", "new_file_after_halt")
async def test_what_a_halted_lane_has_reserved_is_given_back_and_not_submitted(database: str) -> None:
    async with migrated(database) as pool:
        refused, waiting = await batch_of(pool), await batch_of(pool)
        assert await reserve(pool) == 2
        async with pool.pool.acquire() as connection:
            await connection.execute(ENDED, refused)
        async with pool.transaction() as connection:
            batch = await load_batch(connection, refused)
        await CollectorStore(pool, 4).halt_lane(await held(pool, "slot/0"), batch, "it is ours")
        assert await reserve(pool) == 0
        assert await submitter(pool).claim(ACCOUNT, 1.0) is None, "a batch of the halted lane is submitted"
        async with pool.transaction() as connection:
            batches = [await load_batch(connection, each) for each in (refused, waiting)]
        assert {each.state for each in batches} == {BatchState.SEALED}
        assert batches[0].file_id is None, "the refused file is sent again"
        async with pool.pool.acquire() as connection:
            await connection.execute("UPDATE lane SET halted_reason = NULL")
        assert await reserve(pool) == 2


@pytest.mark.defence("pieces_budget")
async def test_pieces_cut_to_a_token_limit_have_budgets_of_creates_of_their_own(database: str) -> None:
    async with migrated(database) as pool:
        whole = await batch_of(pool, requests=100, tokens=10)
        assert await reserve(pool, limit=100) == 1
        async with pool.pool.acquire() as connection:
            pieces = await connection.fetch("SELECT id, root_id, sealed_at FROM batch WHERE state = 'sealed'")
            (parent,) = await connection.fetch("SELECT state, sealed_at FROM batch WHERE id = $1", whole)
    assert len(pieces) > 10
    assert all(each["root_id"] == each["id"] for each in pieces), "the pieces share one budget"
    assert {each["sealed_at"] for each in pieces} == {parent["sealed_at"]}, "they keep their place in the queue"
    assert parent["state"] == "split"
