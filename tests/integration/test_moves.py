"""The moves of a batch as the code knows them, against the database that enforces them."""

import uuid

import asyncpg
import pytest

from penstock.core.batch import TRANSITIONS, BatchState
from penstock.postgres.database import Database
from tests.support.rows import migrated, open_lane

INSERT = """
INSERT INTO batch (id, lane_id, root_id, state, slot, seal_reason, requests, bytes, tokens, inputs, deadline_at,
    file_id, provider_batch_id, submitted_at, ended_at, decision_id, decided_at, published_at)
VALUES ($1, $2, $1, $3, 0, 'age', 1, 1, 1, 1, now(), 'file', 'batch', now(), now(), $1, now(),
    CASE WHEN $3 = 'published' THEN now() END)
"""
MOVE = "UPDATE batch SET state = $2, published_at = CASE WHEN $2 = 'published' THEN now() END WHERE id = $1"


async def allows(pool: Database, lane_id: int, source: BatchState, target: BatchState) -> bool:
    """Whether the database lets a batch that satisfies every other constraint move."""
    batch_id = uuid.uuid4()
    async with pool.pool.acquire() as connection:
        await connection.execute(INSERT, batch_id, lane_id, source.value)
        try:
            await connection.execute(MOVE, batch_id, target.value)
        except asyncpg.CheckViolationError as error:
            return "is no move" not in str(error)
        return True


async def test_the_database_allows_exactly_the_moves_of_the_table(database: str) -> None:
    async with migrated(database) as pool:
        lane_id = await open_lane(pool)
        for source in BatchState:
            allowed = {target for target in BatchState if await allows(pool, lane_id, source, target)}
            assert allowed == TRANSITIONS[source] | {source}, source


LACKING = {
    "creating": ["file_id"],
    "submitted": ["provider_batch_id", "submitted_at"],
    "ended": ["ended_at"],
    "decided": ["ended_at", "decision_id", "decided_at"],
    "published": ["ended_at", "decision_id", "decided_at", "published_at"],
}


async def test_a_state_needs_its_facts(database: str) -> None:
    async with migrated(database) as pool, pool.pool.acquire() as connection:
        lane_id = await open_lane(pool)
        for state, columns in LACKING.items():
            batch_id = uuid.uuid4()
            await connection.execute(INSERT, batch_id, lane_id, state)
            for column in columns:
                with pytest.raises(asyncpg.CheckViolationError):
                    await connection.execute(f"UPDATE batch SET {column} = NULL WHERE id = $1", batch_id)
