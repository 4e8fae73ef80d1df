"""What fails when: drawn from a seed before the run begins, so that a run can be repeated."""

from collections.abc import Iterator
from enum import StrEnum
from itertools import takewhile
from random import Random
from typing import NamedTuple

from tests.soak.storms import STORMS

REPLICAS = 3
WITNESS = REPLICAS - 1
"""The replica that is paused and never killed: its memory is watched over the whole run."""
PAUSE_SHARE = 0.2
PAIR_SHARE = 0.3


class What(StrEnum):
    """The kinds of failure, each by its words in the report."""

    KILL = "replicas killed"
    PAUSE = "replicas paused"
    KAFKA = "broker killed"
    POSTGRES = "Postgres killed"
    SIMULATOR = "simulator killed"
    STORM = "storms"


class Act(NamedTuple):
    """One failure: when it begins, how long it lasts, which replica or which kinds of storm it is about."""

    at_seconds: float
    what: What
    seconds: float
    replica: int = 0
    storms: tuple[str, ...] = ()

    @property
    def ends_at(self) -> float:
        """When it is over."""
        return self.at_seconds + self.seconds


def draw(seed: str, seconds: float) -> list[Act]:
    """All acts of a run of so many seconds, by their beginnings; the last is over before its end.

    Acts of one kind never overlap, nor do those about replicas.
    """
    sources = [
        replicas(Random(f"{seed}/replicas")),
        storms(Random(f"{seed}/storms")),
        outages(Random(f"{seed}/simulator"), What.SIMULATOR, 60.0, 140.0),
        outages(Random(f"{seed}/postgres"), What.POSTGRES, 80.0, 180.0),
        outages(Random(f"{seed}/kafka"), What.KAFKA, 100.0, 220.0),
    ]
    return sorted(act for source in sources for act in takewhile(lambda act: act.ends_at < seconds, source))


def replicas(chance: Random) -> Iterator[Act]:
    """A replica is killed about every 20 s, or paused past its lease and woken."""
    at = chance.uniform(10.0, 20.0)
    while True:
        if chance.random() < PAUSE_SHARE:
            act = Act(at, What.PAUSE, chance.uniform(6.0, 16.0), chance.randrange(REPLICAS))
        else:
            act = Act(at, What.KILL, chance.uniform(0.0, 4.0), chance.randrange(WITNESS))
        yield act
        at = act.ends_at + chance.uniform(8.0, 18.0)


def outages(chance: Random, what: What, least: float, most: float) -> Iterator[Act]:
    """A server is killed and away for some seconds."""
    at = chance.uniform(least / 3, least)
    while True:
        act = Act(at, what, chance.uniform(0.0, 8.0))
        yield act
        at = act.ends_at + chance.uniform(least, most)


def storms(chance: Random) -> Iterator[Act]:
    """One kind of storm after the other, each once before any comes again; now and then two at a time."""
    at = chance.uniform(5.0, 10.0)
    left: list[str] = []
    while True:
        count = 2 if chance.random() < PAIR_SHARE else 1
        if len(left) < count:
            left = chance.sample(list(STORMS), len(STORMS))
        kinds = tuple(left.pop() for _ in range(count))
        act = Act(at, What.STORM, chance.uniform(8.0, 16.0), storms=kinds)
        yield act
        at = act.ends_at + chance.uniform(1.0, 4.0)
