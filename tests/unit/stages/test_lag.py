import uuid

from aiokafka import TopicPartition
from prometheus_client import REGISTRY

from penstock.core.gathering import Source
from penstock.postgres.intake_store import Place
from penstock.stages.assignment import Assigned
from penstock.stages.lag import Lag

MINE = TopicPartition("mine", 0)
OTHER = TopicPartition("other", 0)
NOW = 1_000_000.0


def assigned(partition: TopicPartition) -> Assigned:
    topic_id = uuid.uuid4()
    return Assigned(Place(topic_id, 0), Source("cluster", partition.topic, topic_id), 10)


def shown(name: str, partition: TopicPartition) -> float | None:
    return REGISTRY.get_sample_value(name, {"topic": partition.topic})


def test_lag_and_headroom_are_those_of_the_partitions_that_are_ours_now() -> None:
    lag = Lag({"mine": 1000.0, "other": 1000.0})
    both = {each: assigned(each) for each in (MINE, OTHER)}
    lag.unread = {OTHER: NOW - 900}
    lag.show(both, {}, {MINE: 15, OTHER: 17}, NOW)
    assert shown("penstock_consumer_lag_records", OTHER) == 7
    assert round(shown("penstock_retention_headroom_ratio", OTHER) or 0, 3) == 0.1
    lag.show(both, {}, {MINE: 15, OTHER: 10}, NOW)
    assert shown("penstock_retention_headroom_ratio", OTHER) == 1, "it was read since"
    lag.show({MINE: both[MINE]}, {}, {MINE: 15}, NOW)
    assert shown("penstock_consumer_lag_records", MINE) == 5
    assert shown("penstock_consumer_lag_records", OTHER) is None
    assert shown("penstock_retention_headroom_ratio", OTHER) is None
