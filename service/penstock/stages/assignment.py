"""What intake holds of its partitions, and what it measures of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError

from penstock.core.answered import AnsweredSpan, has
from penstock.core.chunk import headers_bytes
from penstock.core.gathering import Source
from penstock.kafka.topics import Cluster
from penstock.postgres.intake_store import Place, Span, Stand

WENT_BACK = "Kafka's group committed"
"""How the reason begins with which a partition halts because Postgres lost data."""
NOT_ALLOWED = "reading it is not allowed"
"""Why a partition halts until it is: that says nothing of its records."""


@dataclass(slots=True)
class Assigned:
    """A partition of ours: its place, and the offset up to which records were handed on."""

    place: Place
    source: Source
    handed_on: int
    answered: Sequence[AnsweredSpan] = ()
    """Offsets that are not taken in again."""
    epoch: int | None = None
    """The leader epoch in force when fetching began; None when the broker told none."""
    stored_epoch: int | None = None
    """The leader epoch of the position ``handed_on``; None when it has none."""

    def hand_on(self, end: int) -> Span:
        """The records up to an end; from now on they are handed on."""
        span = Span(self.handed_on, end, self.epoch, self.stored_epoch, self.source.incarnation)
        self.handed_on, self.stored_epoch = end, self.epoch
        return span


class Halted(NamedTuple):
    """A partition of ours that is not read: its place, and the position that it halted at."""

    place: Place
    position: int


@dataclass(slots=True)
class Polled:
    """What the polls of one gathering brought."""

    records: dict[TopicPartition, list[Any]] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    """Up to where each partition was read."""
    count: int = 0
    size_bytes: int = 0

    def add(self, partition: TopicPartition, records: list[Any]) -> int:
        """Take a poll's records of one partition in; returns their bytes."""
        size_bytes = sum(map(record_bytes, records))
        self.records.setdefault(partition, []).extend(records)
        self.ends[partition] = records[-1].offset + 1
        self.count += len(records)
        self.size_bytes += size_bytes
        return size_bytes

    def reach(self, assigned: Mapping[TopicPartition, Assigned], positions: Mapping[TopicPartition, int]) -> None:
        """Count what was read to its end as read past the markers of transactions, too (I2)."""
        for partition, position in positions.items():
            if partition in assigned and position > assigned[partition].handed_on:
                self.ends[partition] = position

    def hand_on(self, assigned: Mapping[TopicPartition, Assigned]) -> dict[Place, Span]:
        """The spans of the gathering: from what was handed on before, to where it was read (I2)."""
        spans = {}
        for partition, end in self.ends.items():
            mine = assigned[partition]
            spans[mine.place] = mine.hand_on(end)
        return spans

    def take_fresh(self, assigned: Mapping[TopicPartition, Assigned]) -> dict[Source, list[Any]]:
        """Give its records away, by source, but for those that are answered already."""
        by_source: dict[Source, list[Any]] = {}
        for partition, records in self.records.items():
            mine = assigned[partition]
            fresh = [each for each in records if not has(mine.answered, each.offset)] if mine.answered else records
            by_source.setdefault(mine.source, []).extend(fresh)
        self.records = {}
        return by_source


def record_bytes(record: Any) -> int:
    """Value, key and headers of a record: what it takes until it is stored."""
    return len(record.value or b"") + len(record.key or b"") + headers_bytes(record.headers)


def passes(error: Exception) -> bool:
    """Whether a poll that failed says nothing of the records: the network, the group, what the client calls passing."""
    passing = isinstance(error, OSError | TimeoutError | GroupAuthorizationFailedError)
    return passing or bool(getattr(error, "retriable", False))


def mend_of(partition: TopicPartition, reason: str) -> str:
    """The command that lets a halted partition go on."""
    if reason == NOT_ALLOWED:
        return f"grant READ on {partition.topic}: it goes on within a minute"
    if reason.startswith(WENT_BACK):
        return "penstock resume restored"
    return f"penstock resume partition {partition.topic} {partition.partition}"


def halt_reason(partition: TopicPartition, stand: Stand | None, committed: int | None) -> str | None:
    """Why a partition may not be read, if so: Postgres went back behind Kafka, or it was halted before (I6)."""
    if stand is None:
        return f"{WENT_BACK} {committed}, but Postgres knows no position of {partition.topic}"
    if stand.halted_reason:
        return stand.halted_reason
    if committed is not None and committed > max(stand.position, stand.acknowledged):
        return f"{WENT_BACK} {committed}, but Postgres stands at {stand.position}: it lost data"
    return None


def recreated(
    assigned: Mapping[TopicPartition, Assigned | Halted], cluster: Cluster, partitions: Iterable[TopicPartition]
) -> str | None:
    """The first topic of some partitions that was deleted and made again, which is another topic (I5)."""
    for partition in partitions:
        name: str = partition.topic
        mine, topic = assigned.get(partition), cluster.topics.get(name)
        if mine is not None and (topic is None or topic.id != mine.place.topic_id):
            return name
    return None
