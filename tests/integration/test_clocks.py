"""A replica whose wall clock is more than an hour ahead: nothing changes (see also `tests.benchmark.clock_skew`)."""

import pytest

from tests.support.bridge import Bridge
from tests.support.request import chat

AHEAD_SECONDS = 3900.0
"""Brokers take a record from an hour ahead, and refuse it beyond."""
REQUESTS = 60
LATENCY_MAX_SECONDS = 60.0


@pytest.mark.defence("database_clock")
async def test_a_replica_whose_clock_is_an_hour_ahead_answers_as_if_it_were_not(bridge: Bridge) -> None:
    """Off: it stamps results by its own clock, and no broker takes them."""
    async with bridge.service(altered=["--clock", str(AHEAD_SECONDS)], lease_seconds=10) as service:
        await bridge.produce([chat(f"request-{each}") for each in range(REQUESTS)])
        await bridge.results(REQUESTS)
        await bridge.check()
        latency_seconds = await service.metric("penstock_result_latency_seconds_sum") / REQUESTS
        lost = await service.metric("penstock_leases_lost_total")
    assert lost == 0
    assert 0 < latency_seconds < LATENCY_MAX_SECONDS
