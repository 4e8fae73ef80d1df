"""Publishing beside bare Kafka transactions of the same records."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from penstock.core.identity import transactional_id
from penstock.kafka.result_producer import ResultProducer
from penstock.postgres.batch_row import BatchRow
from penstock.stages.downloader import Spooled
from penstock.stages.publisher import Publisher
from penstock.stages.slot import SlotSession
from tests.benchmark.ground import PARTITIONS, Ground, Reading, Watch, parts, running

ENDED = "SELECT slot FROM batch WHERE state = 'ended'"
TRANSACTION_RECORDS = 10_000


class TimedSession(SlotSession):
    """A session that reads the watch around publishing alone: the batch is downloaded and decided by then."""

    reading: Reading | None = None

    async def publish(self, batch: BatchRow, spooled: Spooled | None) -> None:
        """Publish, timed."""
        watch = Watch()
        await super().publish(batch, spooled)
        self.reading = watch.read(batch.size.requests)


async def publish(ground: Ground, topic: str) -> tuple[Reading, str]:
    """Take the topic's one window as far as its results, and time their publishing; returns the result topic too."""
    environment = await ground.environment(topic)
    async with parts(environment) as bridge:
        upstream = [bridge.stages[name] for name in ("intake", "sealer", "granter", "submitter", "poller")]
        async with running(upstream):
            slot = None
            while slot is None:
                await asyncio.sleep(0.1)
                async with bridge.database.pool.acquire() as connection:
                    slot = await connection.fetchval(ENDED)
        publisher = bridge.stages["publisher"]
        assert isinstance(publisher, Publisher)
        lease = await bridge.keeper.acquire(f"slot/{slot}")
        assert lease is not None
        kafka = bridge.composition.settings.kafka
        producer = ResultProducer(kafka, transactional_id(bridge.composition.settings.deployment, slot), 60.0)
        session = TimedSession(slot, lease, producer, "bench", publisher.tools)
        await session.run(bridge.composition.drain, lambda: None)
        assert session.reading is not None
        return session.reading, kafka.result_topic


async def bare(ground: Ground, result_topic: str, count: int) -> Reading:
    """Send the same records in transactions with the client alone, one ledger record each."""
    records = await read(ground, result_topic, count)
    topic, ledger = await ground.topic("bare"), await ground.topic("bare-ledger", 1)
    producer = AIOKafkaProducer(
        bootstrap_servers=ground.kafka.bootstrap_servers,
        transactional_id=topic,
        compression_type="zstd",
        linger_ms=5,
        max_batch_size=128 * 1024,
    )
    await producer.start()
    try:
        watch = Watch()
        for start in range(0, count, TRANSACTION_RECORDS):
            await producer.begin_transaction()
            await send(producer, topic, records[start : start + TRANSACTION_RECORDS])
            await producer.send_and_wait(ledger, b"position", key=b"batch")
            await producer.commit_transaction()
        return watch.read(count)
    finally:
        await producer.stop()


async def send(producer: AIOKafkaProducer, topic: str, records: list[Any]) -> None:
    """Send records by `send_batch`, each to the partition that it came from."""
    builders: dict[int, Any] = {}
    sends = []
    for record in records:
        builder = builders.get(record.partition)
        full = builder is None or (
            builder.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers)) is None
        )
        if full:
            if builder is not None:
                sends.append(await producer.send_batch(builder, topic, partition=record.partition))
            builders[record.partition] = builder = producer.create_batch()
            builder.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
    for partition, builder in builders.items():
        sends.append(await producer.send_batch(builder, topic, partition=partition))
    await asyncio.gather(*sends)


async def read(ground: Ground, topic: str, count: int) -> list[Any]:
    """The records of a topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=ground.kafka.bootstrap_servers, isolation_level="read_committed")
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    consumer.assign(places)
    await consumer.start()
    try:
        await consumer.seek_to_beginning(*places)
        records: list[Any] = []
        while len(records) < count:
            for fresh in (await consumer.getmany(timeout_ms=500)).values():
                records += fresh
        return records
    finally:
        await consumer.stop()
