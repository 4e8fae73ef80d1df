"""Intake beside a bare `getmany` loop on the same topic."""

import asyncio

from aiokafka import AIOKafkaConsumer

from penstock.stages.intake import Intake
from tests.benchmark.ground import Ground, Reading, Watch, parts, running

STORED = "SELECT coalesce(sum(position), 0) FROM position"


async def bare(ground: Ground, topic: str, count: int) -> Reading:
    """Read the topic with the client alone."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=ground.kafka.bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=1024 * 1024,
    )
    await consumer.start()
    try:
        watch, seen = Watch(), 0
        while seen < count:
            seen += sum(map(len, (await consumer.getmany(timeout_ms=500, max_records=5000)).values()))
        return watch.read(count)
    finally:
        await consumer.stop()


async def intake(ground: Ground, topic: str, count: int) -> Reading:
    """Store the topic's requests in Postgres: validated, in chunks, positions with them."""
    async with parts(await ground.environment(topic)) as bridge:
        stage = bridge.stages["intake"]
        assert isinstance(stage, Intake)
        async with running([stage]):
            while stage.seen_assignments is None:  # joining the group is no part of consuming
                await asyncio.sleep(0.001)
            watch = Watch()
            while True:
                async with bridge.database.pool.acquire() as connection:
                    if await connection.fetchval(STORED) >= count:
                        return watch.read(count)
                await asyncio.sleep(0.02)
