import uuid

from aiokafka import TopicPartition

from penstock.kafka.request_consumer import RequestConsumer
from penstock.settings import KafkaSettings


async def test_a_rebalance_that_takes_partitions_away_leaves_them_without_an_end() -> None:
    consumer = RequestConsumer(KafkaSettings(), "group", uuid.uuid4())
    kept, unseen = TopicPartition("requests", 0), TopicPartition("requests", 1)
    consumer.consumer.assign([kept, unseen])
    subscription = consumer.consumer._subscription  # noqa: SLF001 - what a rebalance changes
    subscription.subscription.assignment.state_value(kept).highwater = 7
    assert consumer.high_watermarks() == {kept: 7}
    subscription.unsubscribe()
    assert consumer.high_watermarks() == {}
    await consumer.stop()
