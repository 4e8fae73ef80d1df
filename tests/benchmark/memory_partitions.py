"""Peak memory of a replica that alone has a thousand partitions full of data, while the database does not answer."""

import asyncio
from collections.abc import Sequence

import asyncpg
from aiokafka import AIOKafkaProducer

from tests.benchmark.bridging import serving
from tests.benchmark.figure import MIB, Figure
from tests.benchmark.ground import Ground
from tests.benchmark.process import peak_bytes
from tests.benchmark.workload import requests
from tests.support.stalled import stalled

PARTITIONS = 1000
EACH = 150
BODY_BYTES = 4096
STALLED_SECONDS = 75.0
"""Longer than a query may take: what was gathered is thrown away, and fetched again."""
DRAIN_SECONDS = 600.0
POSITIONS = "SELECT count(*) AS partitions, coalesce(sum(position), 0) AS records FROM position"


async def fill(bootstrap_servers: str, topic: str) -> None:
    """More than half a megabyte in every partition, not compressed: what is fetched counts as it lies in the topic."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=50, max_batch_size=64 * 1024)
    await producer.start()
    try:
        values = [value for _, value in requests(EACH, BODY_BYTES)]
        for partition in range(PARTITIONS):
            for value in values:
                await producer.send(topic, value, partition=partition)
    finally:
        await producer.stop()


async def reach(dsn: str, partitions: int, records: int) -> None:
    """Wait until so many partitions have a position, and so many records are stored."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while True:
                row = await connection.fetchrow(POSITIONS)
                assert row is not None
                if row["partitions"] >= partitions and row["records"] >= records:
                    return
                await asyncio.sleep(0.2)
    finally:
        await connection.close()


async def measure(ground: Ground) -> Sequence[Figure]:
    """Stall the database, fill the topic, wait; then let all of it be stored."""
    topic = await ground.topic("requests", PARTITIONS)
    environment = await ground.environment(topic)
    dsn = environment["PENSTOCK_POSTGRES_DSN"]
    async with serving(ground, environment, topic) as service:
        await reach(dsn, PARTITIONS, 0)
        async with stalled(ground.postgres):
            await fill(ground.kafka.bootstrap_servers, topic)
            await asyncio.sleep(STALLED_SECONDS)
            waiting = peak_bytes(service.pid)
        await reach(dsn, PARTITIONS, PARTITIONS * EACH)
        drained = peak_bytes(service.pid)
    data = f"{PARTITIONS:,} partitions with {PARTITIONS * EACH * BODY_BYTES / 1e9:.1f} GB"
    return [
        Figure(f"peak memory, {data}, database stalled", waiting / MIB, "MiB", most=256),
        Figure(f"peak memory, {data}, once all was stored", drained / MIB, "MiB", most=256),
    ]
