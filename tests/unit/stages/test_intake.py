import asyncio
import uuid
from typing import Any

import pytest
from aiokafka import TopicPartition
from structlog.testing import CapturingLogger

from penstock.core.gathering import Rules
from penstock.core.lane import Lanes
from penstock.core.request import RequestLimits
from penstock.postgres.intake_store import IntakeStore, Place
from penstock.settings import IntakeSettings
from penstock.stages import intake as module
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
