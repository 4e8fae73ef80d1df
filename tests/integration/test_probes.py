"""What a lane that the provider fails holds back while it probes (W5)."""

import pytest

from penstock.core.window import PROBE_SECONDS_MAX
from penstock.postgres.window_store import WindowStore
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
