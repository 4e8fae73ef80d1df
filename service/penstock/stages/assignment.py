"""What intake holds of its partitions, and what it measures of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from penstock.core.answered import AnsweredSpan
from penstock.core.gathering import Gathering, Source
from penstock.core.lane import LaneKey
from penstock.kafka.topics import Cluster
from penstock.postgres.intake_store import Place, Stand
from penstock.telemetry import metrics

WENT_BACK = "Kafka's group committed"
"""How the reason begins with which a partition halts because Postgres lost data."""


@dataclass(slots=True)
class Assigned:
    """A partition of ours: its place, and the offset up to which records were handed on."""

    place: Place
    source: Source
    handed_on: int
    answered: Sequence[AnsweredSpan] = ()
    """Offsets that are not taken in again."""
    timestamp: float = 0.0
    """Kafka's time of the last record handed on, Unix seconds; 0 when there was none."""


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
        size_bytes = sum(len(record.value or b"") + len(record.key or b"") for record in records)
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


def mend_of(partition: TopicPartition, reason: str) -> str:
    """The command that lets a halted partition go on."""
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
    assigned: Mapping[TopicPartition, Assigned], cluster: Cluster, partitions: Iterable[TopicPartition]
) -> str | None:
    """The first topic of some partitions that was deleted and made again, which is another topic (I5)."""
    for partition in partitions:
        name: str = partition.topic
        mine, topic = assigned.get(partition), cluster.topics.get(name)
        if mine is not None and (topic is None or topic.id != mine.place.topic_id):
            return name
    return None


def count_stored(gathering: Gathering, lane_label: Callable[[LaneKey], str]) -> None:
    """Metrics of a stored gathering."""
    for kind, group in gathering.groups.items():
        if not kind.lane.dead:
            metrics.requests_received.labels(kind.source.topic, lane_label(kind.lane)).inc(len(group.bodies))
    for (topic, code), count in gathering.rejected.items():
        metrics.messages_rejected.labels(topic, code).inc(count)


def measure_lag(
    assigned: Mapping[TopicPartition, Assigned],
    ends: Mapping[TopicPartition, int],
    retention_seconds: Mapping[str, float],
    now: float,
) -> None:
    """Lag of this replica's partitions, and how much of the topics' retention the oldest unstored record has.

    ``now`` is the database's clock, Unix seconds.
    """
    lag: dict[str, int] = {}
    headroom: dict[str, float] = {}
    for partition, mine in assigned.items():
        topic = partition.topic
        behind = max(0, ends.get(partition, mine.handed_on) - mine.handed_on)
        lag[topic] = lag.get(topic, 0) + behind
        retention = retention_seconds.get(topic)
        if behind and mine.timestamp and retention:
            left = 1.0 - max(0.0, now - mine.timestamp) / retention
            headroom[topic] = min(headroom.get(topic, 1.0), max(left, 0.0))
    metrics.forget(metrics.consumer_lag, metrics.retention_headroom)  # what another replica has now, it shows
    for topic, records in lag.items():
        metrics.consumer_lag.labels(topic).set(records)
        metrics.retention_headroom.labels(topic).set(headroom.get(topic, 1.0))
