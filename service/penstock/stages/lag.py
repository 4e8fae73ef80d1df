"""Lag: what waits unread of this replica's partitions, and how long Kafka still keeps it."""

import asyncio
import contextlib
import time
from collections.abc import Collection, Mapping

import structlog
from aiokafka import TopicPartition

from penstock.kafka.connection import TRANSIENT
from penstock.kafka.request_consumer import RequestConsumer
from penstock.postgres.intake_store import IntakeStore, Place
from penstock.stages.assignment import Assigned, Halted
from penstock.telemetry import metrics

log = structlog.get_logger()

AGES_SECONDS = 15.0
HELD_SECONDS = 60.0
AGE_STEPS = 6
"""How often a time is halved in search of the oldest unread record's."""


class Lag:
    """Lag and headroom of what this replica is assigned.

    Args:
        retention_seconds: of each topic that has a limit.
        store: shows operators what is unread.
    """

    def __init__(self, retention_seconds: Mapping[str, float], store: IntakeStore) -> None:
        self.store = store
        self.held: dict[TopicPartition, float] = {}
        """Partitions whose next record an open transaction holds back, and since when, monotonic; the told ones: 0."""
        self.retention_seconds = retention_seconds
        self.unread: dict[TopicPartition, float] = {}
        """Kafka's time of the oldest unread record, as `oldest_unread` found it last; by now it may have been read."""
        self.looking: asyncio.Task[dict[TopicPartition, float]] | None = None
        self.looked_at = 0.0

    def forget(self) -> None:
        """The assignment or a position has changed, or the consumer goes: look anew."""
        if self.looking is not None:
            self.looking.cancel()
        self.looking = None
        self.looked_at = 0.0

    async def measure(
        self,
        consumer: RequestConsumer,
        assigned: Mapping[TopicPartition, Assigned],
        halted: Mapping[TopicPartition, Halted],
        paused: Collection[str],
        clock_offset: float,
    ) -> None:
        """Measure and show.

        Args:
            consumer: asks the brokers.
            assigned: what is read, or paused.
            halted: what is not read.
            paused: topics; no fetch tells where they end.
            clock_offset: from the monotonic clock to the database's.
        """
        asked = [each for each in assigned if each.topic in paused]
        ends = consumer.high_watermarks() | (await consumer.last_offsets(asked) if asked else {})
        now = time.monotonic()
        if self.looking is None and now - self.looked_at >= AGES_SECONDS:
            self.looked_at = now
            known = {each: end for each, end in ends.items() if each in assigned}
            stands = {each: mine.handed_on for each, mine in assigned.items()}
            stands |= {each: mine.position for each, mine in halted.items()}
            look = oldest_unread(consumer, stands, known, self.retention_seconds, now + clock_offset)
            self.looking = asyncio.create_task(look)  # each question may wait behind a fetch that waits for records
            await self.note(assigned, ends, consumer.stable_ends(), now)
        elif self.looking is not None and self.looking.done():
            looking, self.looking = self.looking, None
            with contextlib.suppress(*TRANSIENT):
                self.unread = looking.result()
        self.show(assigned, halted, ends, now + clock_offset)

    async def note(
        self,
        assigned: Mapping[TopicPartition, Assigned],
        ends: Mapping[TopicPartition, int],
        stable: Mapping[TopicPartition, int],
        now: float,
    ) -> None:
        """Store how much is unread, and log what a producer's open transaction has held back for a minute."""
        unread: dict[Place, tuple[int, bool]] = {}
        held: dict[TopicPartition, int] = {}
        for partition, mine in assigned.items():
            behind = max(0, ends.get(partition, mine.handed_on) - mine.handed_on)
            blocked = behind > 0 and stable.get(partition, mine.handed_on + 1) <= mine.handed_on
            unread[mine.place] = behind, blocked
            if blocked:
                held[partition] = behind
        if unread:
            await self.store.note_unread(unread)
        self.held = {each: self.held.get(each, now) for each in held}
        metrics.forget(metrics.consumer_held)
        for partition, records in held.items():
            metrics.consumer_held.labels(partition.topic).inc(records)
            if 0 < self.held[partition] <= now - HELD_SECONDS:
                self.held[partition] = 0.0
                log.warning(
                    "transaction.open",
                    topic=partition.topic,
                    partition=partition.partition,
                    records=records,
                    seconds=HELD_SECONDS,
                    fix="end the producer, or its transaction; the broker aborts it after transaction.timeout.ms",
                )

    def show(
        self,
        assigned: Mapping[TopicPartition, Assigned],
        halted: Mapping[TopicPartition, Halted],
        ends: Mapping[TopicPartition, int],
        now: float,
    ) -> None:
        """Show it by topic. What is halted has no lag that anybody could work off, but its records expire.

        ``now`` is the database's clock, Unix seconds.
        """
        lag: dict[str, int] = {}
        behind: dict[TopicPartition, int] = {}
        for partition, mine in assigned.items():
            behind[partition] = max(0, ends.get(partition, mine.handed_on) - mine.handed_on)
            lag[partition.topic] = lag.get(partition.topic, 0) + behind[partition]
        headroom = dict.fromkeys(lag, 1.0)
        for partition, since in self.unread.items():
            if partition in halted or behind.get(partition):
                left = 1.0 - max(0.0, now - since) / self.retention_seconds[partition.topic]
                headroom[partition.topic] = min(headroom.get(partition.topic, 1.0), max(left, 0.0))
        metrics.forget(metrics.consumer_lag, metrics.retention_headroom)  # what another replica has now, it shows
        for topic, records in lag.items():
            metrics.consumer_lag.labels(topic).set(records)
        for topic, left in headroom.items():
            metrics.retention_headroom.labels(topic).set(left)


async def oldest_unread(
    consumer: RequestConsumer,
    positions: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    retention_seconds: Mapping[str, float],
    now: float,
) -> dict[TopicPartition, float]:
    """Kafka's time (Unix seconds) of the first record at or after each position, where there is one and it can expire.

    It is searched by time, to a 64th of the retention and never later than it is. Memory cannot tell: what was read
    before the start, or of a partition that another replica had, nobody here has seen.

    Args:
        consumer: asks the brokers.
        positions: up to where each partition was handed on.
        ends: of partitions, as far as they are known.
        retention_seconds: of each topic that has a limit.
        now: the database's clock, Unix seconds.
    """
    known = {**ends, **await consumer.last_offsets(each for each in positions if each not in ends)}
    behind = [each for each, at in positions.items() if known[each] > at and each.topic in retention_seconds]
    first = await consumer.first_since(dict.fromkeys(behind, 0.0))
    ages = {each: now - retention_seconds[each.topic] for each in first}
    high = dict.fromkeys(first, now)
    for _ in range(AGE_STEPS):
        middle = {each: (ages[each] + high[each]) / 2 for each in first}
        found = await consumer.first_since(middle)
        for partition, moment in middle.items():
            read = partition in found and found[partition].offset <= positions[partition]
            (ages if read else high)[partition] = moment
    return ages | {each: record.seconds for each, record in first.items() if record.offset >= positions[each]}
