"""Gauges of the whole cluster come from one replica, and from no other that once had the lease."""

import signal

from tests.support.bridge import Bridge
from tests.support.request import chat

LEASE_SECONDS = 2
QUICK = ["--census-round", "0.5"]
QUEUE = "penstock_queue_requests"
BACKLOG = "penstock_backlog_bytes"


async def test_who_lost_the_lease_shows_the_clusters_gauges_no_longer(bridge: Bridge) -> None:
    bridge.lanes.write_text("[defaults]\nage_max_seconds = 600\n")
    async with bridge.service(altered=QUICK, lease_seconds=LEASE_SECONDS) as one:
        await bridge.produce([chat(f"{number}") for number in range(5)])
        await one.reached(QUEUE, 5)
        await one.reached(BACKLOG, 1)
        async with bridge.service(altered=QUICK, lease_seconds=5 * LEASE_SECONDS) as other:
            one.send(signal.SIGSTOP)
            await other.reached(QUEUE, 5)
            await other.reached(BACKLOG, 1)
            one.wake()
            await one.fell_to(QUEUE, 0)
            await one.fell_to(BACKLOG, 0)
            assert await other.metric(QUEUE) == 5


async def test_what_a_lane_costs_is_shown_before_it_costs_anything(bridge: Bridge) -> None:
    bridge.lanes.write_text('[[lane]]\nmodel = "gpt-4o"\nname = "large"\n')
    async with bridge.service() as service:
        text = service.get("/metrics")
    for lane in ("large", "other"):
        assert f'penstock_cost_usd_total{{lane="{lane}"}} 0.0' in text
        assert f'penstock_tokens_used_total{{direction="output",lane="{lane}"}} 0.0' in text
