"""The slot's producer against the broker."""

import asyncio
import gc
import time

import pytest
from aiokafka.errors import ProducerFenced

from penstock.embedded.kafka import EmbeddedKafka
from penstock.kafka.closing import unawaited
from penstock.kafka.result_producer import ResultProducer
from penstock.settings import KafkaSettings
from tests.support.stack import TopicFactory


async def test_a_fenced_producer_raises_and_leaves_no_complaint_behind(
    kafka: EmbeddedKafka, topic: TopicFactory, caplog: pytest.LogCaptureFixture
) -> None:
    results = await topic("results")
    gc.collect()  # what tests before have left is none of ours
    caplog.clear()
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
    old, new = (ResultProducer(settings, f"slot-of-{results}", 20.0) for _ in range(2))
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(unawaited)
    try:
        await old.start()
        await old.begin()
        await new.start()
        await new.stop()
        old.append(results, 0, b"key", b"value", [], int(time.time() * 1000))
        with pytest.raises(ProducerFenced):
            await old.flush()
        await old.stop()
        del old, new
        gc.collect()
        loop.create_future().set_exception(ValueError("not of Kafka"))
        gc.collect()
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    complaints = [each for each in caplog.messages if "never retrieved" in each]
    assert len(complaints) == 1, "that of somebody else is heard"
