"""Two replicas whose wall clocks are an hour ahead and an hour behind: nothing changes."""

import asyncio
from collections.abc import Sequence

from tests.benchmark.figure import Figure
from tests.benchmark.ground import Ground
from tests.support.bridge import open_bridge
from tests.support.request import chat
from tests.support.service import Service

SKEW_SECONDS = 3660.0
"""More than an hour: that is what brokers let a record be ahead."""
ROUNDS = 60
PER_ROUND = 30
ROUND_SECONDS = 1.0
MODELS = 5
ANSWER_SECONDS = 180.0
LATENCY_MAX_SECONDS = 60.0


async def measure(ground: Ground) -> Sequence[Figure]:
    """Bridge requests with both, judge, and ask each what it saw."""
    folder = ground.folder / "bridge"
    folder.mkdir()
    async with open_bridge(ground.kafka, ground.postgres, folder) as bridge:
        ahead, behind = (
            bridge.service(altered=["--clock", str(skew)], lease_seconds=30) for skew in (SKEW_SECONDS, -SKEW_SECONDS)
        )
        async with ahead, behind:
            for number in range(ROUNDS):
                lines = [chat(f"r-{number}-{each}", model=f"model-{number % MODELS}") for each in range(PER_ROUND)]
                await bridge.produce(lines)
                await asyncio.sleep(ROUND_SECONDS)
            await bridge.results(ROUNDS * PER_ROUND, ANSWER_SECONDS)
            report = await bridge.check()
            figures = [Figure("requests executed twice, clocks ±1 h", report["extra_executions"], "", most=0)]
            for name, service in (("1 h ahead", ahead), ("1 h behind", behind)):
                figures += await seen(name, service)
    return figures


async def seen(name: str, service: Service) -> list[Figure]:
    """What a replica saw."""
    latency = "penstock_result_latency_seconds"
    published = await service.metric(f"{latency}_count")
    mean_seconds = await service.metric(f"{latency}_sum") / max(published, 1)
    lost = await service.metric("penstock_leases_lost_total")
    return [
        Figure(f"results published by the replica {name}", published, "", least=1),
        Figure(f"their mean latency, as it sees it, {name}", mean_seconds, "s", least=0.01, most=LATENCY_MAX_SECONDS),
        Figure(f"leases lost by the replica {name}", lost, "", most=0),
    ]
