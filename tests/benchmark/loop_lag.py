"""The event loop's longest delay while bodies of 16 KB pass from topic to topic, and results as large."""

import asyncio
import contextlib
import os
from collections.abc import Sequence

import asyncpg

from tests.benchmark.bridging import PUBLISHED, serving
from tests.benchmark.figure import Figure
from tests.benchmark.ground import Ground
from tests.benchmark.workload import fill

REQUESTS = 20_000
BODY_BYTES = 16 * 1024
WINDOW_SECONDS = 12.0
"""The metric tells the longest delay of ten seconds."""
FIRST = -20
"""The service comes before all that shares its cores: what is measured is its own doing."""


async def measure(ground: Ground) -> Sequence[Figure]:
    """Consume, pack, upload, collect and publish, and take the worst of the service's own metric."""
    topic = await ground.topic("requests")
    environment = await ground.environment(topic)
    async with serving(ground, environment, topic) as service:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, service.pid, FIRST)
        connection = await asyncpg.connect(environment["PENSTOCK_POSTGRES_DSN"])
        try:
            filling = asyncio.create_task(fill(ground.kafka.bootstrap_servers, topic, REQUESTS, BODY_BYTES))
            worst_seconds, after = 0.0, WINDOW_SECONDS
            while after > 0:
                worst_seconds = max(worst_seconds, await service.metric("penstock_loop_lag_seconds"))
                await asyncio.sleep(1.0)
                after -= await connection.fetchval(PUBLISHED) >= REQUESTS
            await filling
        finally:
            await connection.close()
    return [Figure(f"longest delay of the loop, {REQUESTS:,} bodies of 16 KB", worst_seconds * 1000, "ms", most=100)]
