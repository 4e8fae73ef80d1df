"""A batch that is closed here although the provider never said that it is over (W3)."""

import uuid
from datetime import UTC, datetime

import pytest

from penstock.core.batch import BatchState, ProviderBatch
from penstock.postgres.batch_row import load_batch
from penstock.postgres.collector_store import CollectorStore
from penstock.postgres.database import Database
from penstock.postgres.poller_store import PollerStore
from penstock.postgres.submitter_store import SubmitterStore
from penstock.stages.lease import Lease
from tests.support.rows import ACCOUNT, LANE, batch_of, held, migrated

SEEN = ProviderBatch("batch_1", "in_progress", datetime.now(UTC), None, None, None, (), {}, 0, 0, 0)


async def submitted(pool: Database) -> uuid.UUID:
    """A batch that the provider has."""
    batch_id, store = await batch_of(pool), SubmitterStore(pool, uuid.uuid4(), 60.0, 4)
    await store.reserve(ACCOUNT, LANE.model, lambda *_: None)
    claim = await store.claim(ACCOUNT, 60.0)
    assert claim
    lease = Lease(f"batch/{batch_id}", claim.epoch, 60.0, float("inf"), 0.0)
    await store.store_file(lease, batch_id, "file-1")
    intent_id = await store.intend(lease, claim.batch, 100)
    assert intent_id
    await store.landed(lease, batch_id, intent_id, SEEN, adopted=False)
    return batch_id


async def quota(pool: Database) -> tuple[int | None, float, bool]:
    """What is known of the model: its limit, its factor, and whether it is probed for."""
    async with pool.transaction() as connection:
        row = await connection.raw.fetchrow("SELECT learned_limit, factor, probing FROM quota")
        return (row["learned_limit"], row["factor"], row["probing"]) if row else (None, 1.0, False)


@pytest.mark.parametrize("gone", [False, True])
async def test_only_what_the_provider_forgot_is_not_watched_to_its_end(database: str, *, gone: bool) -> None:
    async with migrated(database) as pool:
        batch_id, poller = await submitted(pool), PollerStore(pool)
        lease = await held(pool, f"poller/{ACCOUNT}")
        assert await poller.abandon(lease, batch_id, gone=gone)
        assert not await poller.abandon(lease, batch_id, gone=gone)
        assert len(await poller.watched(ACCOUNT)) == (0 if gone else 1)
        async with pool.transaction() as connection:
            batch = await load_batch(connection, batch_id)
            assert await connection.raw.fetchval("SELECT count(*) FROM reservation") == (0 if gone else 1)
        assert (batch.state, batch.abandoned) == (BatchState.ENDED, True)


@pytest.mark.defence("given_up_teaches")
@pytest.mark.outcome("limit-beside-given-up")
async def test_a_refusal_for_tokens_teaches_nothing_while_a_batch_that_was_given_up_may_hold_some(
    database: str,
) -> None:
    """Off: the limit that is learned, or the factor, is of the batch that nobody counts. It has a bound, too."""
    async with migrated(database) as pool:
        batch_id, poller, collector = await submitted(pool), PollerStore(pool), CollectorStore(pool, 4)
        before = await quota(pool)
        lease = await held(pool, f"poller/{ACCOUNT}")
        assert await poller.abandon(lease, batch_id, gone=False)
        for limit in (None, 90_000):
            await collector.learn_limit(ACCOUNT, LANE.model, limit, 90_000)
        assert await quota(pool) == before, "something was learned"
        assert await poller.forget(lease, batch_id)
        assert not await poller.forget(lease, batch_id)
        assert await poller.watched(ACCOUNT) == []
        async with pool.transaction() as connection:
            assert await connection.raw.fetchval("SELECT count(*) FROM reservation") == 0, "it keeps its tokens"
        await collector.learn_limit(ACCOUNT, LANE.model, 90_000)
        assert (await quota(pool))[0] == 90_000
