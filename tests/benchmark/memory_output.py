"""Peak memory with an output file of 3.3 GB: a whole window of embeddings, from topic to topic."""

import asyncio
import json
from collections.abc import Sequence

import asyncpg
from aiokafka import AIOKafkaProducer

from tests.benchmark.bridging import PUBLISHED, serving
from tests.benchmark.figure import MIB, Figure
from tests.benchmark.ground import Ground
from tests.benchmark.process import peak_bytes

REQUESTS = 50_000
DIMENSIONS = 3072
"""What the largest embeddings have: 66 KB as JSON."""
OUTPUT_GB_MIN = 3.2
LANES = f"[defaults]\nage_max_seconds = 600\nrequests_max = {REQUESTS}\n"


async def fill(bootstrap_servers: str, topic: str) -> None:
    """Small requests with large answers."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=5, max_batch_size=128 * 1024)
    await producer.start()
    try:
        for number in range(REQUESTS):
            body = {"model": "text-embedding-3-large", "input": f"text {number}", "dimensions": DIMENSIONS}
            line = {"custom_id": f"request-{number}", "method": "POST", "url": "/v1/embeddings", "body": body}
            await producer.send(topic, json.dumps(line).encode())
    finally:
        await producer.stop()


def output_bytes(ground: Ground) -> int:
    """The largest file that the provider has made."""
    return max(path.stat().st_size for path in ground.simulator.state.rglob("*") if path.is_file())


async def measure(ground: Ground) -> Sequence[Figure]:
    """One batch, collected and published."""
    topic = await ground.topic("requests")
    environment = await ground.environment(topic)
    ground.lanes(environment, LANES)
    async with serving(ground, environment, topic) as service:
        connection = await asyncpg.connect(environment["PENSTOCK_POSTGRES_DSN"])
        try:
            await fill(ground.kafka.bootstrap_servers, topic)
            while await connection.fetchval(PUBLISHED) < REQUESTS:
                await asyncio.sleep(0.5)
            peak = peak_bytes(service.pid)
        finally:
            await connection.close()
    return [
        Figure("an output file", output_bytes(ground) / 1e9, "GB", least=OUTPUT_GB_MIN),
        Figure("peak memory with it, collected and published", peak / MIB, "MiB", most=256),
    ]
