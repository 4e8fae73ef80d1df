"""Looking for what an interrupted redrive has sent."""

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition

from penstock.core.errors import PenstockError
from penstock.core.redrive import RUN_HEADER
from penstock.kafka.closing import stop_within
from penstock.kafka.connection import client_options
from penstock.kafka.reach import start_client
from penstock.settings import KafkaSettings

POLL_MS = 500
SECONDS = 600.0


async def ends_of(settings: KafkaSettings, topics: Sequence[str]) -> dict[str, list[int]]:
    """Where the partitions of topics end, open transactions included.

    Raises:
        KafkaError, OSError: the brokers cannot be reached.
    """
    consumer = AIOKafkaConsumer(**client_options(settings, "penstock-redrive"), isolation_level="read_uncommitted")
    try:
        await start_client(consumer, settings)
        found = {}
        for topic in topics:
            await consumer._client._wait_on_metadata(topic)  # noqa: SLF001 - the public way answers from a cache
            places = [TopicPartition(topic, each) for each in sorted(consumer.partitions_for_topic(topic) or ())]
            ends = await consumer.end_offsets(places)
            found[topic] = [ends[each] for each in places]
        return found
    finally:
        await stop_within(consumer)


async def is_committed(settings: KafkaSettings, ends: Mapping[str, Sequence[int]], run: str) -> bool:
    """Whether a redrive's transaction is in the request topics; its producer has been fenced before.

    Args:
        settings: brokers.
        ends: where each partition of each topic ended before it.
        run: its id, as its requests carry it.

    Raises:
        PenstockError: somebody's open transaction hides the topics' ends.
        KafkaError, OSError: the brokers cannot be reached.
    """
    now = await ends_of(settings, list(ends))
    left = {
        TopicPartition(topic, partition): now[topic][partition]
        for topic, starts in ends.items()
        for partition, start in enumerate(starts)
        if now[topic][partition] > start
    }
    options = client_options(settings, "penstock-redrive")
    consumer = AIOKafkaConsumer(**options, isolation_level="read_committed", auto_offset_reset="earliest")
    consumer.assign(list(left))
    wanted = (RUN_HEADER, run.encode())
    try:
        await start_client(consumer, settings)
        for place in left:
            consumer.seek(place, ends[place.topic][place.partition])
        async with asyncio.timeout(SECONDS):
            while left:
                polled = await consumer.getmany(timeout_ms=POLL_MS)
                if any(wanted in record.headers for records in polled.values() for record in records):
                    return True
                left = {place: end for place, end in left.items() if await consumer.position(place) < end}
                consumer.pause(*(set(consumer.assignment()) - left.keys()))
    except TimeoutError:
        raise PenstockError("a transaction that somebody has open hides what was redriven; try again later") from None
    finally:
        await stop_within(consumer)
    return False
