import uuid
from collections.abc import Mapping

from aiokafka import TopicPartition
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from penstock.core.gathering import Source
from penstock.postgres.intake_store import IntakeStore, Place
from penstock.stages.assignment import Assigned
from penstock.stages.lag import Lag


class Unread(IntakeStore):
    """Keeps what was noted last."""

    def __init__(self) -> None:
        self.noted: Mapping[Place, tuple[int, bool]] = {}

    async def note_unread(self, unread: Mapping[Place, tuple[int, bool]]) -> None:
        self.noted = unread


MINE = TopicPartition("mine", 0)
OTHER = TopicPartition("other", 0)
NOW = 1_000_000.0


def assigned(partition: TopicPartition) -> Assigned:
    topic_id = uuid.uuid4()
    return Assigned(Place(topic_id, 0), Source("cluster", partition.topic, topic_id), 10)


def shown(name: str, partition: TopicPartition) -> float | None:
    return REGISTRY.get_sample_value(name, {"topic": partition.topic})


def test_lag_and_headroom_are_those_of_the_partitions_that_are_ours_now() -> None:
    lag = Lag({"mine": 1000.0, "other": 1000.0}, Unread())
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


async def test_what_an_open_transaction_holds_back_is_shown_stored_and_told_once() -> None:
    store = Unread()
    lag = Lag({}, store)
    mine, other = assigned(MINE), assigned(OTHER)
    with capture_logs() as logs:
        for now in (100.0, 130.0, 161.0, 200.0):
            await lag.note({MINE: mine, OTHER: other}, {MINE: 31, OTHER: 17}, {MINE: 10, OTHER: 17}, now)
            assert store.noted == {mine.place: (21, True), other.place: (7, False)}
    assert shown("penstock_consumer_held_records", MINE) == 21
    assert shown("penstock_consumer_held_records", OTHER) is None
    (told,) = logs
    assert (told["event"], told["topic"], told["partition"], told["records"]) == ("transaction.open", "mine", 0, 21)
    await lag.note({MINE: mine}, {MINE: 31}, {MINE: 31}, 300.0)
    assert store.noted == {mine.place: (21, False)}
    assert shown("penstock_consumer_held_records", MINE) is None


async def test_a_broker_that_tells_no_stable_end_holds_nothing_back() -> None:
    store = Unread()
    mine = assigned(MINE)
    await Lag({}, store).note({MINE: mine}, {MINE: 31}, {}, 100.0)
    assert store.noted == {mine.place: (21, False)}
