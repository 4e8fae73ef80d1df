import asyncio
import uuid
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError
from structlog.testing import CapturingLogger

from penstock.core.gathering import Rules, Source
from penstock.core.lane import Lanes
from penstock.core.request import RequestLimits
from penstock.postgres.intake_store import IntakeStore, Place
from penstock.settings import IntakeSettings
from penstock.stages import intake as module
from penstock.stages.assignment import Assigned, Polled
from penstock.stages.intake import Intake
from penstock.telemetry import metrics


class FakeStore(IntakeStore):
    """Remembers halts."""

    def __init__(self) -> None:
        self.halted: list[Place] = []

    async def halt_partition(self, place: Place, reason: str, position: int) -> None:
        assert reason
        assert position == 7
        self.halted.append(place)


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


async def test_what_may_not_be_read_is_halted_until_it_may_and_halts_no_other(
    intake: Intake, log: CapturingLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied, fine = TopicPartition("denied", 0), TopicPartition("fine", 0)

    class Consumer:
        def high_watermarks(self) -> dict[TopicPartition, int]:
            return {}

        async def poll_one(self, partition: TopicPartition) -> None:
            if partition == denied:
                raise TopicAuthorizationFailedError("denied")

    async def nothing(*_: object) -> None: ...

    monkeypatch.setattr(intake, "reset", nothing)
    intake.consumer = cast("Any", Consumer())
    source = Source("cluster", "topic", uuid.uuid4())
    intake.assigned = {each: Assigned(Place(uuid.uuid4(), 0), source, 7) for each in (denied, fine)}
    await intake.isolate()
    assert list(intake.assigned) == [fine]
    assert cast("FakeStore", intake.store).halted == [], "an operator would have to resume it"
    assert "grant READ" in log.calls[-1].kwargs["mend"]
    metrics.partitions_halted.clear()


def test_a_gathering_is_bounded_by_all_that_its_records_hold() -> None:
    record = SimpleNamespace(value=b"12", key=b"345", headers=[("name", b"6789"), ("no", None)], offset=0)
    assert Polled().add(TopicPartition("topic", 0), [record]) == 15
