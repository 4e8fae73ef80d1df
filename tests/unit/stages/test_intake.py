import asyncio
import uuid
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError
from structlog.testing import CapturingLogger

from penstock.core.gathering import Rules
from penstock.core.lane import Lanes
from penstock.core.request import RequestLimits
from penstock.kafka.leader_epochs import EpochEnd, EpochQuestion
from penstock.kafka.topics import Cluster, Topic
from penstock.postgres.intake_store import HaltCode, IntakeStore, Place, Stand
from penstock.settings import IntakeSettings
from penstock.stages import intake as module
from penstock.stages.assignment import Polled
from penstock.stages.intake import Intake
from penstock.telemetry import metrics


class FakeStore(IntakeStore):
    """Remembers halts."""

    def __init__(self) -> None:
        self.halted: list[Place] = []

    async def note_unread(self, unread: Mapping[Place, tuple[int, bool]]) -> None:
        pass

    async def halt_partition(
        self,
        place: Place,
        reason: str,
        position: int,
        code: HaltCode | None = None,
        diverged_at: int | None = None,
    ) -> None:
        assert (code, diverged_at) == (None, None)
        assert reason
        assert position == 7
        self.halted.append(place)

    async def read_positions(self, places: Iterable[Place]) -> dict[Place, Stand]:
        return {each: Stand(7, None, 0, ()) for each in places}

    async def database_clock(self) -> float:
        return 0.0

    async def paused_topics(self) -> frozenset[str]:
        return frozenset()


def no_consumer() -> Any:
    raise AssertionError("nothing is consumed")


def halted_of(topic: str) -> float | None:
    (family,) = metrics.partitions_halted.collect()
    return next((each.value for each in family.samples if each.labels["topic"] == topic), None)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> CapturingLogger:
    log = CapturingLogger()
    monkeypatch.setattr(module, "log", log)
    return log


@pytest.fixture
def intake() -> Intake:
    rules = Rules("account", Lanes(), RequestLimits(), "results", "dead", frozenset())
    return Intake(asyncio.Event(), IntakeSettings(), "earliest", rules, FakeStore(), {}, no_consumer, str)


async def test_halted_partitions_are_counted_by_their_topic(intake: Intake, log: CapturingLogger) -> None:
    metrics.partitions_halted.clear()
    for topic, partition in (("one", 0), ("other", 0), ("one", 1), ("one", 1)):
        await intake.halt(TopicPartition(topic, partition), Place(uuid.uuid4(), partition), "it is a test", 7)
    assert (halted_of("one"), halted_of("other")) == (2, 1)
    assert log.calls[-1].method_name == "error"
    assert log.calls[-1].kwargs["mend"] == "penstock resume partition one 1"
    metrics.partitions_halted.clear()


DENIED, FINE = TopicPartition("denied", 0), TopicPartition("fine", 0)
TOPICS = {each.topic: Topic(each.topic, uuid.uuid4(), 1, 1) for each in (DENIED, FINE)}


class Consumer:
    """Two partitions, one of which may not be read; it says so at each poll that asks for it."""

    assignments = 1

    def __init__(self) -> None:
        self.paused: set[TopicPartition] = set()

    def __getattr__(self, name: str) -> Any:
        answers = {"high_watermarks": {}, "drained": {}, "stable_ends": {}, "assigned": {DENIED, FINE}}
        if name in answers:
            return lambda: answers[name]
        return self.nothing

    async def nothing(self, *_: object) -> dict[TopicPartition, int]:
        return {}

    def seek(self, partition: TopicPartition, position: int) -> None: ...

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self.paused -= set(partitions)

    async def describe(self) -> Cluster:
        return Cluster("cluster", TOPICS)

    async def epoch_ends(self, questions: Mapping[TopicPartition, EpochQuestion]) -> dict[TopicPartition, EpochEnd]:
        assert not questions, "the brokers of this test tell no epochs"
        return {}

    async def poll(self, *_: object) -> dict[TopicPartition, list[Any]]:
        if DENIED not in self.paused:
            raise TopicAuthorizationFailedError("denied")
        return {}

    async def poll_one(self, partition: TopicPartition) -> None:
        if partition == DENIED:
            raise TopicAuthorizationFailedError("denied")


async def test_what_may_not_be_read_is_halted_until_it_may_and_halts_no_other(
    intake: Intake, log: CapturingLogger
) -> None:
    consumer, store = Consumer(), cast("FakeStore", intake.store)
    intake.consumer = cast("Any", consumer)
    assert await intake.guarded_round() > 0, "what it had gathered is thrown away, once"
    await intake.reset(cast("Any", consumer), "a test")
    for _ in range(3):
        await intake.check(cast("Any", consumer))
        await intake.poll(cast("Any", consumer), 1, 0.0)
    assert (list(intake.assigned), list(intake.halted), consumer.paused) == ([FINE], [DENIED], {DENIED})
    assert store.halted == [], "an operator would have to resume it"
    assert "grant READ" in [each.kwargs["mend"] for each in log.calls if "mend" in each.kwargs][-1]
    await intake.check_topics(await consumer.describe())
    await intake.reset(cast("Any", consumer), "a minute later")
    assert DENIED in intake.assigned, "it is tried again"
    metrics.partitions_halted.clear()


def test_a_gathering_is_bounded_by_all_that_its_records_hold() -> None:
    record = SimpleNamespace(value=b"12", key=b"345", headers=[("name", b"6789"), ("no", None)], offset=0)
    assert Polled().add(TopicPartition("topic", 0), [record]) == 15
