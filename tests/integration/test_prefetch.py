"""What the Kafka client may hold fetched and unread follows what is assigned, also when that grows."""

import asyncio
import uuid

from penstock.embedded.kafka import EmbeddedKafka
from penstock.kafka.request_consumer import PREFETCH_BYTES, RequestConsumer
from penstock.settings import KafkaSettings
from tests.support.stack import TopicFactory

PARTITIONS = 32


async def shared(consumer: RequestConsumer, partitions: int) -> None:
    """Wait until a member has so many partitions, and fetches accordingly."""
    fetcher = consumer.consumer._fetcher  # noqa: SLF001 - no public way
    async with asyncio.timeout(60):
        while len(consumer.assigned()) != partitions:
            await asyncio.sleep(0.05)
        while fetcher._max_partition_fetch_bytes != PREFETCH_BYTES // partitions:  # noqa: SLF001 - the same
            await asyncio.sleep(0.05)


async def test_the_prefetch_is_shared_out_among_the_partitions_that_are_assigned(
    kafka: EmbeddedKafka, topic: TopicFactory
) -> None:
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers,
        request_topics=(await topic("requests", partitions=PARTITIONS),),
        session_seconds=6,
    )
    first, second = (RequestConsumer(settings, settings.request_topics[0], uuid.uuid4()) for _ in range(2))
    await first.start()
    try:
        await shared(first, PARTITIONS)
        await second.start()
        await shared(first, PARTITIONS // 2)
        await shared(second, PARTITIONS // 2)
        await second.stop()
        await shared(first, PARTITIONS)
    finally:
        await first.stop()
        await second.stop()
