import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.server import ServerError
from tests.support.stack import TopicFactory


async def produce(kafka: EmbeddedKafka, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def consume(kafka: EmbeddedKafka, topic: str, count: int) -> list[bytes]:
    """The first records that a read_committed reader sees."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    async with consumer:
        consumer.assign([TopicPartition(topic, 0)])
        return [(await consumer.getone()).value for _ in range(count)]


async def test_what_is_produced_is_consumed(kafka: EmbeddedKafka, topic: TopicFactory) -> None:
    name = await topic()
    await produce(kafka, name, b"one", b"two")
    assert await consume(kafka, name, 2) == [b"one", b"two"]


async def test_a_topic_has_the_partitions_and_configs_it_was_asked_for(
    kafka: EmbeddedKafka, topic: TopicFactory
) -> None:
    name = await topic("ledger", partitions=3, configs={"cleanup.policy": "compact"})
    async with AIOKafkaConsumer(name, bootstrap_servers=kafka.bootstrap_servers) as consumer:
        assert consumer.partitions_for_topic(name) == {0, 1, 2}


async def test_an_aborted_transaction_is_never_read(kafka: EmbeddedKafka, topic: TopicFactory) -> None:
    name = await topic()
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id="writer") as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(name, b"aborted")
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(name, b"committed")
    assert await consume(kafka, name, 1) == [b"committed"]


async def test_a_group_goes_on_from_its_committed_offset(kafka: EmbeddedKafka, topic: TopicFactory) -> None:
    name = await topic()
    await produce(kafka, name, b"one", b"two")
    for expected in (b"one", b"two"):
        consumer = AIOKafkaConsumer(
            name,
            bootstrap_servers=kafka.bootstrap_servers,
            group_id="readers",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        async with consumer:
            record = await consumer.getone()
            assert record.value == expected
            await consumer.commit({TopicPartition(name, 0): record.offset + 1})


async def test_a_compacted_topic_forgets_all_but_the_last_record_of_a_key(
    kafka: EmbeddedKafka, topic: TopicFactory
) -> None:
    name = await topic("ledger", configs={"cleanup.policy": "compact", "segment.ms": "1", "max.compaction.lag.ms": "1"})
    values = [str(number).encode() for number in range(20)]
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        for value in values:
            await producer.send_and_wait(name, value, key=b"batch")
    async with asyncio.timeout(60):
        while (seen := await consume(kafka, name, 1)) == values[:1]:
            await asyncio.sleep(0.1)
    assert seen[0] in values


async def test_records_survive_a_kill_and_the_port_stays(kafka: EmbeddedKafka, topic: TopicFactory) -> None:
    name = await topic()
    before = kafka.bootstrap_servers
    await produce(kafka, name, b"kept")
    await kafka.kill()
    assert not kafka.is_running
    await kafka.restart()
    assert kafka.bootstrap_servers == before
    assert await consume(kafka, name, 1) == [b"kept"]


async def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path, settings={"num.io.threads": "none"})
    with pytest.raises(ServerError, match=r"num\.io\.threads"):
        await broker.start()
