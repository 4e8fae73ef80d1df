"""A Kafka client that cannot be stopped well leaves nothing behind that runs."""

import asyncio
import gc

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from penstock.embedded.kafka import EmbeddedKafka
from penstock.kafka.closing import stop_within
from tests.support.stack import TopicFactory

STOP_SECONDS = 0.3


async def opened(kind: str, kafka: EmbeddedKafka, topic: str) -> AIOKafkaConsumer | AIOKafkaProducer:
    """A client of this kind that was in use when the broker went away."""
    bootstrap = kafka.bootstrap_servers
    if kind == "producer":
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=topic)
        await producer.start()
        await producer.begin_transaction()
        await (await producer.send(topic, b"sent"))
        await kafka.kill()
        (await producer.send(topic, b"never sent")).cancel()
        return producer
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=topic if kind == "member" else None)
    await consumer.start()
    await consumer.getmany(timeout_ms=500)
    await kafka.kill()
    return consumer


@pytest.mark.parametrize("kind", ["producer", "consumer", "member"])
async def test_a_client_that_lost_its_broker_ends_all_its_tasks(
    kafka: EmbeddedKafka, topic: TopicFactory, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    gc.collect()  # what tests before have left is none of ours
    caplog.clear()
    before = asyncio.all_tasks()
    try:
        client = await opened(kind, kafka, await topic("lost"))
        assert asyncio.all_tasks() - before
        await stop_within(client, STOP_SECONDS)
    finally:
        await kafka.start()
    del client
    gc.collect()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before
    assert [each for each in caplog.messages if "was destroyed" in each or "never retrieved" in each] == []
