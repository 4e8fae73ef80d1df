"""A batch that is closed here although the provider never said that it is over (W3)."""

import uuid
from datetime import UTC, datetime

import pytest

from penstock.core.batch import BatchState, ProviderBatch
from penstock.postgres.batch_row import load_batch
from penstock.postgres.poller_store import PollerStore
from penstock.postgres.submitter_store import SubmitterStore
from penstock.stages.lease import Lease
from tests.support.rows import ACCOUNT, LANE, batch_of, held, migrated

SEEN = ProviderBatch("batch_1", "in_progress", datetime.now(UTC), None, None, None, (), {}, 0, 0, 0)


@pytest.mark.parametrize("gone", [False, True])
async def test_only_what_the_provider_forgot_is_not_watched_to_its_end(database: str, *, gone: bool) -> None:
    async with migrated(database) as pool:
        batch_id, store, poller = await batch_of(pool), SubmitterStore(pool, uuid.uuid4(), 60.0, 4), PollerStore(pool)
        await store.reserve(ACCOUNT, LANE.model, lambda *_: None)
        claim = await store.claim(ACCOUNT, 60.0)
        assert claim
        lease = Lease(f"batch/{batch_id}", claim.epoch, 60.0, float("inf"), 0.0)
        await store.store_file(lease, batch_id, "file-1")
        intent_id = await store.intend(lease, claim.batch, 100)
        assert intent_id
        await store.landed(lease, batch_id, intent_id, SEEN, adopted=False)
        lease = await held(pool, f"poller/{ACCOUNT}")
        assert await poller.abandon(lease, batch_id, gone=gone)
        assert not await poller.abandon(lease, batch_id, gone=gone)
        assert len(await poller.watched(ACCOUNT)) == (0 if gone else 1)
        async with pool.transaction() as connection:
            batch = await load_batch(connection, batch_id)
            assert await connection.raw.fetchval("SELECT count(*) FROM reservation") == (0 if gone else 1)
        assert (batch.state, batch.abandoned) == (BatchState.ENDED, True)
