"""The consumer of the request topics: seeks by itself, never lets Kafka's offsets be the truth."""

import uuid
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from penstock.kafka.closing import stop_within
from penstock.kafka.connection import client_options, read_password_anew
from penstock.kafka.leader_epochs import EpochEnd, EpochQuestion, read_epoch_ends
from penstock.kafka.reach import start_client
from penstock.kafka.topics import Cluster, describe_topics
from penstock.settings import KafkaSettings
from penstock.telemetry import metrics
from penstock.telemetry.failpoint import failpoint

REBALANCE_MS = 60_000
HEARTBEATS_PER_SESSION = 10
PREFETCH_BYTES = 8 * 1024 * 1024
"""What aiokafka may hold fetched and unread; shared out among the partitions that are assigned."""
PARTITION_BYTES_MIN = 64 * 1024
PARTITION_BYTES_MAX = 1024 * 1024


def partition_bytes(partitions: int) -> int:
    """What one fetch may bring of a partition, when so many are assigned."""
    return max(PARTITION_BYTES_MIN, min(PARTITION_BYTES_MAX, PREFETCH_BYTES // max(partitions, 1)))


class Moment(NamedTuple):
    """A record's offset and Kafka's time of it, Unix seconds."""

    offset: int
    seconds: float


class AssignmentWatch(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Counts assignments and shares out the prefetch: aiokafka only logs what a listener raises, and forbids more."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self.consumer = consumer
        self.count = 0

    def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        """What is in flight no longer counts."""
        self.count += 1

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """The intake has to seek before it reads on."""
        self.count += 1
        self.consumer._fetcher._max_partition_fetch_bytes = partition_bytes(len(assigned))  # noqa: SLF001 - no public way
        metrics.rebalances.inc()


class RequestConsumer:
    """One member of the consumer group.

    Args:
        settings: brokers and topics.
        group: the consumer group.
        member: this replica, for the broker's logs.
    """

    def __init__(self, settings: KafkaSettings, group: str, member: uuid.UUID) -> None:
        session_ms = int(settings.session_seconds * 1000)
        self.consumer = AIOKafkaConsumer(
            **client_options(settings, f"penstock-{member.hex[:8]}"),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // HEARTBEATS_PER_SESSION,
            rebalance_timeout_ms=REBALANCE_MS,
            metadata_max_age_ms=int(settings.metadata_seconds * 1000),
            request_timeout_ms=REBALANCE_MS + session_ms,  # a join is answered when the slowest member has come
            max_partition_fetch_bytes=PARTITION_BYTES_MIN,  # until the assignment is known
            fetch_max_bytes=PREFETCH_BYTES,
            max_poll_records=None,
        )
        read_password_anew(self.consumer._client, settings)  # noqa: SLF001 - no public way
        self.watch = AssignmentWatch(self.consumer)
        self.settings = settings
        self.topics = settings.request_topics

    @failpoint("intake.join")
    async def start(self) -> None:
        """Join the group.

        Raises:
            KafkaError, OSError: the brokers cannot be reached.
        """
        self.consumer.subscribe(list(self.topics), listener=self.watch)
        await start_client(self.consumer, self.settings)

    @failpoint("intake.leave")
    async def stop(self) -> None:
        """Leave the group; bounded in time, since the broker may be away."""
        await stop_within(self.consumer)

    @property
    def assignments(self) -> int:
        """Rises with every change of the assignment."""
        return self.watch.count

    def assigned(self) -> set[TopicPartition]:
        """The partitions that are this replica's now."""
        assigned: set[TopicPartition] = self.consumer.assignment()
        return assigned

    @failpoint("intake.poll")
    async def poll(self, records: int, seconds: float) -> dict[TopicPartition, list[Any]]:
        """Some records, as soon as there are any."""
        polled: dict[TopicPartition, list[Any]] = await self.consumer.getmany(
            timeout_ms=int(seconds * 1000), max_records=max(records, 1)
        )
        return polled

    @failpoint("intake.poll_one")
    async def poll_one(self, partition: TopicPartition) -> None:
        """Fetch from one partition alone, to see whether its records can be read."""
        await self.consumer.getmany(partition, timeout_ms=1000, max_records=1)

    def seek(self, partition: TopicPartition, position: int) -> None:
        """Read on from a position; what was fetched from elsewhere is dropped."""
        self.consumer.seek(partition, position)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop fetching; lost at each rebalance."""
        if chosen := tuple(partitions):
            self.consumer.pause(*chosen)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch again."""
        if chosen := tuple(partitions):
            self.consumer.resume(*chosen)

    @failpoint("intake.describe")
    async def describe(self) -> Cluster:
        """The request topics' ids as they are now."""
        return await describe_topics(self.consumer._client, self.topics)  # noqa: SLF001 - the only way to the protocol

    @failpoint("intake.epoch_ends")
    async def epoch_ends(self, questions: Mapping[TopicPartition, EpochQuestion]) -> dict[TopicPartition, EpochEnd]:
        """Where leader epochs end, by their leaders' word: one request to each; without those that do not answer."""
        return await read_epoch_ends(self.consumer._client, questions.items())  # noqa: SLF001 - no public way

    @failpoint("intake.first_offsets")
    async def first_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that each partition still has."""
        found: dict[TopicPartition, int] = await self.consumer.beginning_offsets(list(partitions))
        return found

    @failpoint("intake.last_offsets")
    async def last_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after each partition's last record."""
        found: dict[TopicPartition, int] = await self.consumer.end_offsets(list(partitions))
        return found

    @failpoint("intake.first_since")
    async def first_since(self, moments: Mapping[TopicPartition, float]) -> dict[TopicPartition, Moment]:
        """The first record of each partition that is no older than a moment (Unix seconds), where there is one."""
        found = await self.consumer.offsets_for_times({each: int(at * 1000) for each, at in moments.items()})
        return {each: Moment(at.offset, at.timestamp / 1000) for each, at in found.items() if at is not None}

    @failpoint("intake.committed")
    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """What the group committed, which is advice and, when it is ahead of Postgres, evidence (I6)."""
        coordinator = self.consumer._coordinator  # noqa: SLF001 - the public way asks the broker once per partition
        found = await coordinator.fetch_committed_offsets(list(partitions))
        return {partition: each.offset for partition, each in found.items() if each.offset >= 0}

    def high_watermarks(self) -> dict[TopicPartition, int]:
        """The end of each partition that is this replica's now, as the last fetch saw it."""
        ends = {partition: self.consumer.highwater(partition) for partition in self.assigned()}
        return {partition: offset for partition, offset in ends.items() if offset is not None}

    def stable_ends(self) -> dict[TopicPartition, int]:
        """Up to where each partition can be read: the first record of a transaction that is still open, or its end."""
        ends = {partition: self.consumer.last_stable_offset(partition) for partition in self.assigned()}
        return {partition: offset for partition, offset in ends.items() if offset is not None and offset >= 0}

    def drained(self) -> dict[TopicPartition, int]:
        """The position of each partition of which all that was fetched has been polled: no record is before it.

        With markers of transactions at its end it is more than the last record's offset and 1. It says so only of polls
        that raised nothing since the last seek. The client moves it past what is too large to fetch, too; but then that
        error is still unread.
        """
        found = {}
        for partition in self.assigned():
            state = self.consumer._subscription.subscription.assignment.state_value(partition)  # noqa: SLF001 - the public way may wait
            if state.has_valid_position and partition not in self.consumer._fetcher._records:  # noqa: SLF001 - no public way
                found[partition] = state.position
        return found

    @failpoint("intake.commit")
    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell Kafka how far we are: for lag and for people. What is no longer ours is left out."""
        mine = self.assigned()
        chosen = {partition: offset for partition, offset in offsets.items() if partition in mine}
        if not chosen:
            return
        try:
            await self.consumer.commit(chosen)
        except (KafkaError, IllegalStateError):
            return  # a rebalance came between, or the coordinator is away; whoever goes on reads Postgres
