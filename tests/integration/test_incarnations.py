"""A position, the leader epoch it was read under, and the incarnation of its partition, in Postgres."""

import uuid

import asyncpg
import pytest

from penstock.core.answered import Answered, AnsweredSpan
from penstock.core.errors import Superseded
from penstock.postgres.database import Database
from penstock.postgres.intake_store import HaltCode, IntakeStore, Place, Span
from penstock.postgres.restore_store import RestoreStore
from tests.support.rows import CLUSTER, TOPIC, TOPIC_ID, migrated

PLACE = Place(TOPIC_ID, 0)


async def replaced(pool: Database, halt_code: HaltCode | None) -> IntakeStore:
    """A partition that was read to 10 under epoch 3, halted, and resumed at 4."""
    store = IntakeStore(pool, CLUSTER)
    await store.ensure_positions({PLACE: (TOPIC, 0)})
    await store.store({PLACE: Span(0, 10, epoch=3)}, [])
    await store.halt_partition(PLACE, "a test", 10, halt_code, 4 if halt_code else None)
    await store.resume_partition(PLACE, TOPIC, 4, 10)
    return store


@pytest.mark.defence("epoch_of_its_position")
async def test_an_epoch_counts_only_together_with_the_position_it_was_stored_with(database: str) -> None:
    """Off: an older replica moved the position, and the log is held against an epoch that ended before it."""
    async with migrated(database) as pool:
        store = IntakeStore(pool, CLUSTER)
        await store.ensure_positions({PLACE: (TOPIC, 0)})
        await store.store({PLACE: Span(0, 10, epoch=3)}, [])
        assert (await store.read_positions([PLACE]))[PLACE].epoch == 3
        async with pool.transaction() as connection:
            await connection.raw.execute("UPDATE position SET position = 20")  # as a replica of 0.2.0 does
        assert (await store.read_positions([PLACE]))[PLACE].epoch is None
        await store.take_epochs({PLACE: (19, 5)})
        assert (await store.read_positions([PLACE]))[PLACE].epoch is None
        await store.take_epochs({PLACE: (20, 5)})
        assert (await store.read_positions([PLACE]))[PLACE].epoch == 5


@pytest.mark.defence("new_incarnation")
async def test_resuming_a_replaced_log_starts_a_new_incarnation(database: str) -> None:
    """Off: what an owner of the old log fetched is stored, and new messages get ids that were given before."""
    async with migrated(database) as pool:
        store = await replaced(pool, HaltCode.DIVERGED)
        stand = (await store.read_positions([PLACE]))[PLACE]
        assert (stand.position, stand.incarnation, stand.epoch, stand.halt_code) == (4, 1, None, None)
        assert (stand.halted_reason, stand.acknowledged) == (None, 10)
        with pytest.raises(Superseded):
            await store.store({PLACE: Span(4, 12, epoch=3)}, [])
        await store.store({PLACE: Span(4, 12, epoch=5, incarnation=1)}, [])


async def test_resuming_for_another_reason_keeps_the_incarnation(database: str) -> None:
    async with migrated(database) as pool:
        store = await replaced(pool, None)
        assert (await store.read_positions([PLACE]))[PLACE].incarnation == 0


async def test_a_replica_that_knows_no_incarnations_cannot_move_a_position_of_one(database: str) -> None:
    async with migrated(database) as pool:
        await replaced(pool, HaltCode.DIVERGED)
        with pytest.raises(asyncpg.CheckViolationError, match="incarnation 1"):
            async with pool.transaction() as connection:
                await connection.raw.execute("UPDATE position SET position = 20")


async def test_what_was_answered_in_one_incarnation_is_not_in_the_next(database: str) -> None:
    async with migrated(database) as pool:
        store = await replaced(pool, HaltCode.DIVERGED)
        spans = {(TOPIC_ID.bytes, 0, 0): [AnsweredSpan(4, 9)], (TOPIC_ID.bytes, 0, 1): [AnsweredSpan(4, 5)]}
        await RestoreStore(pool, 4).note(Answered(spans))
        assert (await store.read_positions([PLACE]))[PLACE].answered == [(4, 5)]
        assert await store.read_positions([Place(uuid.uuid4(), 0)]) == {}
