"""Reading topics from their beginning to their end."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, TopicPartition

Isolation = Literal["read_committed", "read_uncommitted"]
Ends = Mapping[TopicPartition, int]

POLL_RECORDS_MAX = 2000


class Stuck(TimeoutError):
    """The ends of these partitions cannot be reached."""

    def __init__(self, partitions: list[TopicPartition]) -> None:
        super().__init__(", ".join(f"{each.topic}/{each.partition}" for each in partitions))
        self.partitions = partitions


@asynccontextmanager
async def consuming(bootstrap: str, isolation: Isolation) -> AsyncIterator[Any]:
    """A consumer without a group."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level=isolation, auto_offset_reset="none", enable_auto_commit=False
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def ends_of(bootstrap: str, topic: str, partitions: int, isolation: Isolation) -> dict[TopicPartition, int]:
    """Where each partition ends: for read_committed before its first open transaction, else at its last record."""
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    async with consuming(bootstrap, isolation) as consumer:
        consumer.assign(places)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(places)
    return ends


async def read_to(bootstrap: str, ends: Ends, isolation: Isolation, patience_seconds: float) -> AsyncIterator[Any]:
    """Every record before the ends, those of a partition in order.

    Raises:
        Stuck: there was no progress for so long.
    """
    async with consuming(bootstrap, isolation) as consumer:
        consumer.assign(list(ends))
        await consumer.seek_to_beginning(*ends)
        loop = asyncio.get_running_loop()
        positions: dict[TopicPartition, int] = {}
        progressed_at = loop.time()
        while True:
            before = dict(positions)
            positions = {each: await consumer.position(each) for each in ends}
            left = [each for each in ends if positions[each] < ends[each]]
            if not left:
                return
            if positions != before:
                progressed_at = loop.time()
            elif loop.time() - progressed_at > patience_seconds:
                raise Stuck(left)
            polled = await consumer.getmany(*left, timeout_ms=200, max_records=POLL_RECORDS_MAX)
            for partition, records in polled.items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield record
