"""What passes its deadline unsealed is answered, and what shares a chunk with it is sealed as any window (W6, S2)."""

from dataclasses import replace

from penstock.postgres.batch_row import load_batch
from penstock.postgres.window_store import Birth, WindowStore
from tests.support.rows import ROOMY, chunk_of, held, migrated, store


async def test_what_shares_a_chunk_with_the_overdue_is_sealed_within_the_limits_of_its_lane(database: str) -> None:
    async with migrated(database) as pool:
        lane_id, lease = await store(pool, chunk_of(7, late=2)), await held(pool, "sealer")
        limits = replace(ROOMY, requests=2)
        assert await WindowStore(pool).expire(lease, Birth(lane_id, 4), limits) == 4
        async with pool.transaction() as connection:
            ids = await connection.raw.fetch("SELECT id FROM batch")
            batches = [await load_batch(connection, row["id"]) for row in ids]
        sealed = sorted((each.size.requests, each.verdict is not None) for each in batches)
        assert sealed == [(1, False), (2, False), (2, False), (2, True)]
