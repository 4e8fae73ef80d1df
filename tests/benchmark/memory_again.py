"""Peak memory when all requests of a full window get another try."""

import asyncio
from collections.abc import Sequence

import asyncpg

from tests.benchmark.bridging import PUBLISHED, serving
from tests.benchmark.figure import MIB, Figure
from tests.benchmark.ground import Ground
from tests.benchmark.process import peak_bytes
from tests.benchmark.workload import fill

BODY_BYTES = 16 * 1024
REQUESTS = 12_000
LANES = f"[defaults]\nrequests_max = {REQUESTS}\nretry_min_seconds = 1\nenqueued_tokens_max = 1000000000\n"
EXPIRED = {"times": 1, "batch": {"end": "expired", "done_fraction": 0.0}}
"""The first batch ends without an answer."""
WAIT_SECONDS = 300.0


async def measure(ground: Ground) -> Sequence[Figure]:
    """A window of nearly 200 MB, from topic to topic by two batches."""
    await ground.simulator.faults([EXPIRED])
    topic = await ground.topic("requests")
    environment = await ground.environment(topic)
    ground.lanes(environment, LANES)
    await fill(ground.kafka.bootstrap_servers, topic, REQUESTS, BODY_BYTES)
    async with serving(ground, environment, topic) as service, asyncio.timeout(WAIT_SECONDS):
        connection = await asyncpg.connect(environment["PENSTOCK_POSTGRES_DSN"])
        try:
            while await connection.fetchval(PUBLISHED) < 2 * REQUESTS:  # each counts in both of its batches
                await asyncio.sleep(0.2)
        finally:
            await connection.close()
        peak = peak_bytes(service.pid)
    return [Figure(f"peak memory, {REQUESTS:,} bodies of 16 KB tried again", peak / MIB, "MiB", most=256)]
