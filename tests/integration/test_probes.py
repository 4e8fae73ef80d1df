"""What a lane that the provider fails holds back while it probes (W5)."""

import pytest

from penstock.core.decision import Kind, Reconciliation
from penstock.core.window import PROBE_SAMPLE, PROBE_SECONDS_MAX
from penstock.postgres.batch_row import BatchRow
from penstock.postgres.collector_store import CollectorStore
from penstock.postgres.database import Database
from penstock.postgres.window_store import WindowStore
from penstock.stages.downloader import Spooled
from tests.support.collecting import collector_of
from tests.support.rows import batch_of, chunk_of, migrated, store


@pytest.mark.defence("probe_bound")
@pytest.mark.outcome("probe-stuck")
async def test_a_probe_that_takes_too_long_holds_nothing_else_up_and_is_reported(database: str) -> None:
    """Off: whatever waits in the lane waits for it."""
    async with migrated(database) as pool:
        probe = await batch_of(pool)
        await store(pool, chunk_of(2))
        async with pool.pool.acquire() as connection:
            await connection.execute("UPDATE lane SET probing_at = clock_timestamp() - interval '2 days'")
            (window,) = await WindowStore(pool).windows()
            assert (window.probing, window.probe_running, window.probe_overdue) == (True, True, False)
            late = "UPDATE batch SET sealed_at = sealed_at - make_interval(secs => $2) WHERE id = $1"
            await connection.execute(late, probe, PROBE_SECONDS_MAX)
        (window,) = await WindowStore(pool).windows()
        assert (window.probe_running, window.probe_overdue) == (False, True), "it holds the lane up for ever"


@pytest.mark.defence("probe_sample")
async def test_a_few_requests_that_fail_do_not_have_their_lane_probe(database: str) -> None:
    """Off: they do, and all else of the lane waits for small probes."""
    async with migrated(database) as pool:
        lines = {requests: await failed_batch(pool, requests) for requests in (PROBE_SAMPLE - 1, PROBE_SAMPLE)}
        collector = collector_of(pool, 4)
        for requests, (batch, spooled) in lines.items():
            await collector.learn(batch, spooled)
            async with pool.pool.acquire() as connection:
                probing = await connection.fetchval("SELECT probing_at IS NOT NULL FROM lane")
            assert probing == (requests == PROBE_SAMPLE), f"{requests} requests decide"


async def failed_batch(pool: Database, requests: int) -> tuple[BatchRow, Spooled]:
    """A batch of which every line is a failure by the provider's fault."""
    batch = await CollectorStore(pool, 4).load(await batch_of(pool, requests))
    lines = Reconciliation({}, requests)
    lines.kinds[:] = bytes([Kind.OWN_FAILURE]) * requests
    return batch, Spooled([], [], lines)
