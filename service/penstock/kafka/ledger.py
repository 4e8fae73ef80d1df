"""Reading one partition of the ledger to its end (P2)."""

import asyncio
import contextlib
import uuid

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from penstock.core.errors import UnknownFormat
from penstock.core.ledger import LedgerRecord, decode_ledger
from penstock.kafka.closing import stop_within
from penstock.kafka.connection import client_options
from penstock.kafka.reach import start_client
from penstock.kafka.record_reader import RecordReader
from penstock.settings import KafkaSettings
from penstock.telemetry.failpoint import failpoint

POLL_SECONDS = 0.2


@failpoint("publisher.ledger")
async def read_ledger(
    settings: KafkaSettings, topic: str, partition: int, client_id: str, timeout_seconds: float
) -> dict[uuid.UUID, LedgerRecord]:
    """The last record of each batch of a slot.

    Call it after the slot's producer has started: then nobody else can write the partition. The end is the high
    watermark, taken read_uncommitted; the read itself is read_committed and goes on until it has passed that end.

    Raises:
        KafkaError, TimeoutError: the end was not reached.
        UnknownFormat: a newer version wrote a record.
    """
    place = TopicPartition(topic, partition)
    options = client_options(settings, client_id)
    async with asyncio.timeout(timeout_seconds):
        end = await end_of(settings, client_id, place)
        consumer = AIOKafkaConsumer(**options, isolation_level="read_committed", auto_offset_reset="none")
        consumer.assign([place])
        last: dict[bytes, bytes | None] = {}  # decoded at the end: what was overwritten need not be understood
        try:
            await start_client(consumer, settings)
            await consumer.seek_to_beginning(place)
            while await consumer.position(place) < end:
                for record in (await consumer.getmany(timeout_ms=200, max_records=5000)).get(place, []):
                    last[record.key] = record.value
        finally:
            await stop_within(consumer)
    records = (decode_ledger(key, value) for key, value in last.items() if value is not None)
    return {each.batch_id: each for each in records}


@failpoint("census.ledger")
async def read_every_slot(settings: KafkaSettings, topic: str, client_id: str) -> dict[uuid.UUID, LedgerRecord]:
    """The last record of each batch of every slot, as far as transactions are committed; waits for no open one.

    What a newer version wrote is left out: its slot is the one to halt.
    """
    async with RecordReader(settings, [topic], from_beginning=True, client_id=client_id) as reader:
        ends = await reader.ends()
        last: dict[bytes, bytes | None] = {}
        while not await reader.has_passed(ends):
            last.update((record.key, record.value) for record in await reader.poll(POLL_SECONDS))
    found = {}
    for key, value in last.items():
        with contextlib.suppress(UnknownFormat):
            record = decode_ledger(key, value) if value is not None else None
            found.update({record.batch_id: record} if record else {})
    return found


async def end_of(settings: KafkaSettings, client_id: str, place: TopicPartition) -> int:
    """The end of a partition, open transactions included."""
    options = client_options(settings, client_id)
    consumer = AIOKafkaConsumer(**options, isolation_level="read_uncommitted", auto_offset_reset="none")
    consumer.assign([place])
    try:
        await start_client(consumer, settings)
        ends: dict[TopicPartition, int] = await consumer.end_offsets([place])
    finally:
        await stop_within(consumer)
    if place not in ends:
        raise KafkaError(f"the end of {place.topic}-{place.partition} is not known")
    return ends[place]
