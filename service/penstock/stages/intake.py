"""Intake: messages in, chunks and positions in Postgres, in one transaction per gathering.

Everything in flight is thrown away after any failure, and Postgres' positions are where it goes on (I3). One gathering
is stored and another one packed while the next is filled.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError, TopicAuthorizationFailedError

from penstock.core.errors import LogMoved, Unreadable
from penstock.core.gathering import Gathering, Rules, Source
from penstock.core.lane import DEAD_LETTERS, LaneKey
from penstock.kafka.request_consumer import RequestConsumer
from penstock.kafka.topics import Cluster
from penstock.postgres.intake_store import HaltCode, IntakeStore, Place, Span, Stand
from penstock.settings import IntakeSettings
from penstock.stages.assignment import NOT_ALLOWED, Assigned, Halted, Polled, halt_reason, mend_of, passes, recreated
from penstock.stages.divergence import Divergence, epoch_of
from penstock.stages.lag import Lag
from penstock.stages.log_check import confirm, find_diverged
from penstock.stages.stage import Stage
from penstock.telemetry import metrics

log = structlog.get_logger()

POLL_SECONDS = 0.5
POLL_BYTES = 1024 * 1024
"""About what one poll takes: the client unpacks it on the event loop."""
TRICKLE_SECONDS = 0.05
TRICKLE_SHARE = 0.05
CHECK_SECONDS = 1.0
TOPIC_CHECK_SECONDS = 60.0
IN_FLIGHT_MAX = 2
"""Gatherings that are prepared or stored while the next one is filled."""
RECORD_BYTES_GUESS = 1024.0


class Intake(Stage):
    """The first stage.

    Args:
        drain: set when the service is to stop.
        settings: sizes of gatherings.
        start_at: `earliest` or `latest`, for partitions never seen.
        rules: what messages are validated against.
        store: positions and chunks.
        retention_seconds: of each topic that has a limit.
        consumer: makes a new consumer; called again after a failure that the old one may not survive.
        lane_label: a lane's name in metrics.
    """

    name = "intake"

    def __init__(
        self,
        drain: asyncio.Event,
        settings: IntakeSettings,
        start_at: str,
        rules: Rules,
        store: IntakeStore,
        retention_seconds: Mapping[str, float],
        consumer: Callable[[], RequestConsumer],
        lane_label: Callable[[LaneKey], str],
    ) -> None:
        super().__init__(drain)
        self.settings = settings
        self.start_at = start_at
        self.rules = rules
        self.store = store
        self.lag = Lag(retention_seconds, store)
        self.make_consumer = consumer
        self.lane_label = lane_label
        self.consumer: RequestConsumer | None = None
        self.seen_assignments: int | None = None
        self.assigned: dict[TopicPartition, Assigned] = {}
        self.halted: dict[TopicPartition, Halted] = {}
        self.denied: set[TopicPartition] = set()
        self.paused_topics: frozenset[str] = frozenset()
        self.storing: list[asyncio.Task[None]] = []
        self.record_bytes = RECORD_BYTES_GUESS
        self.checked_at = 0.0
        self.topics_checked_at = 0.0
        self.clock_offset = 0.0

    async def round(self) -> float:
        """One gathering: filled while the one before it is stored."""
        try:
            if self.consumer is None and not await self.join():
                return 0.0
            assert self.consumer is not None
            if self.consumer.assignments != self.seen_assignments:
                await self.reset(self.consumer, "assignment")
            polled = await self.gather(self.consumer)
            if polled is None:
                return 0.0
            if polled.ends:
                spans = polled.hand_on(self.assigned)
                before = self.storing[-1] if self.storing else None
                self.storing.append(asyncio.create_task(self.store_polled(self.consumer, polled, spans, before)))
            while self.storing and (self.drain.is_set() or not polled.ends or len(self.storing) >= IN_FLIGHT_MAX):
                await self.storing.pop(0)
        except (NoOffsetForPartitionError, OffsetOutOfRangeError, Unreadable, LogMoved) as error:
            return await self.recover(error)
        except BaseException as error:
            await self.discard(type(error).__name__)
            if isinstance(error, KafkaError) and self.failures:
                await self.drop_consumer()  # a client can be beyond repair
            raise
        return 0.0

    async def recover(self, error: Exception) -> float:
        """Halt what cannot be read, and that alone; returns the pause before the next round."""
        await self.discard(type(error).__name__)
        if isinstance(error, OffsetOutOfRangeError):
            await self.halt_out_of_range(error)
        elif isinstance(error, Unreadable):
            await self.isolate()
        elif isinstance(error, LogMoved):
            log.info("fetched.discarded", reason=str(error))
        return POLL_SECONDS  # NoOffsetForPartitionError: the client looked before we could seek

    async def join(self) -> bool:
        """Make a consumer and join the group, which may take a rebalance; False when the drain came first."""
        consumer = self.make_consumer()
        starting = asyncio.create_task(consumer.start())
        draining = asyncio.create_task(self.drain.wait())
        try:
            await asyncio.wait([starting, draining], return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                return False
            await starting
            self.consumer = consumer
            return True
        finally:
            draining.cancel()
            if self.consumer is not consumer:
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                await consumer.stop()

    async def gather(self, consumer: RequestConsumer) -> Polled | None:
        """Poll until count, bytes or the linger; None when the assignment changed: then nothing polled counts."""
        polled = Polled()
        ends_at: float | None = None
        while not self.drain.is_set():
            await self.check(consumer)
            room = min(
                self.settings.requests_max - polled.count,
                int(min(self.settings.bytes_max - polled.size_bytes, POLL_BYTES) / self.record_bytes) + 1,
            )
            left = POLL_SECONDS if ends_at is None else max(0.0, min(POLL_SECONDS, ends_at - time.monotonic()))
            fresh = await self.poll(consumer, room, left)
            if consumer.assignments != self.seen_assignments:
                return None
            count = sum(map(len, fresh.values()))
            for partition, records in fresh.items():
                if partition not in self.assigned:
                    continue  # halted, and fetched before it was paused
                size_bytes = polled.add(partition, records)
                self.record_bytes += 0.2 * (size_bytes / len(records) - self.record_bytes)
            if polled.count and ends_at is None:
                ends_at = time.monotonic() + self.settings.linger_seconds
            full = polled.count >= self.settings.requests_max or polled.size_bytes >= self.settings.bytes_max
            if full or ends_at is None or time.monotonic() >= ends_at:
                break
            if count < min(room, self.settings.requests_max * TRICKLE_SHARE):
                await asyncio.sleep(min(TRICKLE_SECONDS, max(0.0, ends_at - time.monotonic())))
        if consumer.assignments != self.seen_assignments:
            return None
        polled.reach(self.assigned, consumer.drained())  # nothing is awaited between this and the line before
        return polled

    async def poll(self, consumer: RequestConsumer, records: int, seconds: float) -> dict[TopicPartition, list[Any]]:
        """Some records.

        Raises:
            Unreadable: some partition's records cannot be decoded, which passes by no further try.
        """
        try:
            return await consumer.poll(records, seconds)
        except (OffsetOutOfRangeError, NoOffsetForPartitionError):
            raise
        except Exception as error:
            if passes(error):
                raise
            raise Unreadable(type(error).__name__) from error

    async def isolate(self) -> None:
        """Poll partitions one by one, and halt those whose records cannot be read: the others go on."""
        consumer = self.consumer
        if consumer is None:
            return
        await self.reset(consumer, "unreadable")
        ends, known = consumer.high_watermarks(), len(self.halted)
        idle = {each for each, mine in self.assigned.items() if ends.get(each) == mine.handed_on}
        for partition in sorted(self.assigned, key=idle.__contains__):
            if partition in idle and len(self.halted) > known:
                break  # those that wait for records take a second each: they come last, while none was found
            mine = self.assigned[partition]
            try:
                await consumer.poll_one(partition)
            except Exception as error:
                if passes(error):
                    raise
                reason = NOT_ALLOWED
                if lasting := not isinstance(error, TopicAuthorizationFailedError):
                    reason = f"the records from {mine.handed_on} cannot be read: {type(error).__name__}"
                await self.halt(partition, mine.place, reason, mine.handed_on, lasting=lasting)
        self.seen_assignments = None  # polling has moved positions

    async def store_polled(
        self,
        consumer: RequestConsumer,
        polled: Polled,
        spans: dict[Place, Span],
        before: asyncio.Task[None] | None,
    ) -> None:
        """Validate, pack and store a gathering; then tell Kafka, which is advice only.

        It is prepared while the gathering ``before`` it is stored, and stored after it; when that fails, so does this.
        """
        gathering = Gathering(self.rules, time.monotonic() + self.clock_offset)
        by_source = polled.take_fresh(self.assigned)
        for source, messages in by_source.items():
            await asyncio.to_thread(gathering.sort, source, messages)
        by_source.clear()
        keys = gathering.lanes()
        lane_ids = await self.store.open_lanes(keys, self.rules.lanes.lanes_max)
        if len(lane_ids) < len(keys):
            lane_ids |= await self.store.open_lanes([DEAD_LETTERS], self.rules.lanes.lanes_max)
        chunks = await asyncio.to_thread(gathering.pack, lane_ids)
        if before is not None:
            await before
        await confirm(consumer, self.assigned, polled, spans)
        await self.store.store(spans, chunks)
        self.count(gathering)
        self.progressed()
        await consumer.commit(polled.ends)

    def count(self, gathering: Gathering) -> None:
        """Metrics of a stored gathering."""
        for kind, group in gathering.groups.items():
            if not kind.lane.dead:
                received = metrics.requests_received.labels(kind.source.topic, self.lane_label(kind.lane))
                received.inc(len(group.bodies))
        for (topic, code), count in gathering.rejected.items():
            metrics.messages_rejected.labels(topic, code).inc(count)

    async def discard(self, cause: str) -> None:
        """Throw away what is in flight; the next round seeks to Postgres' positions (I3)."""
        self.seen_assignments = None
        self.lag.forget()
        storing, self.storing = self.storing, []
        for task in storing:
            task.cancel()
        await asyncio.gather(*storing, return_exceptions=True)
        metrics.intake_resets.labels(cause).inc()

    async def drop_consumer(self) -> None:
        """Leave the group; the next round makes a new consumer."""
        consumer, self.consumer = self.consumer, None
        if consumer is not None:
            await consumer.stop()

    async def reset(self, consumer: RequestConsumer, cause: str) -> None:
        """Learn what is ours, and seek to where Postgres says it stands."""
        if cause == "assignment" and self.storing:
            await self.discard(cause)
        assignments = consumer.assignments
        partitions = consumer.assigned()
        await self.stay_in_group(consumer, partitions)
        cluster = await consumer.describe()
        places = {each: Place(cluster.topics[each.topic].id, each.partition) for each in partitions}
        committed = await consumer.committed(partitions) if partitions else {}
        stands = await self.first_stands(consumer, places, committed)
        diverged = await find_diverged(consumer, self.store, places, stands, cluster)
        self.halted = {}
        metrics.partitions_halted.clear()
        self.assigned = {}
        for partition, place in places.items():
            stand = stands.get(place)
            lasting = partition not in self.denied
            reason = halt_reason(partition, stand, committed.get(partition)) if lasting else NOT_ALLOWED
            lost = None if reason else diverged.get(partition)
            if reason or lost or stand is None:
                position = stand.position if stand else 0
                await self.halt(partition, place, reason or "no position", position, lasting=lasting, lost=lost)
                # Paused, but with a position: without one the client would look for it and fail every poll.
                consumer.seek(partition, stand.position if stand else 0)
                continue
            consumer.seek(partition, stand.position)
            source = Source(cluster.id, partition.topic, place.topic_id, stand.incarnation)
            epoch = epoch_of(cluster.leader(*partition))
            self.assigned[partition] = Assigned(place, source, stand.position, stand.answered, epoch, stand.epoch)
        consumer.resume(self.assigned)
        self.paused_topics = frozenset()
        self.checked_at = 0.0
        self.lag.forget()
        self.clock_offset = await self.store.database_clock() - time.monotonic()
        self.topics_checked_at = time.monotonic()
        self.seen_assignments = assignments
        metrics.partitions_assigned.set(len(partitions))
        log.info("partitions.assigned", partitions=len(partitions), halted=len(self.halted))

    async def stay_in_group(self, consumer: RequestConsumer, partitions: set[TopicPartition]) -> None:
        """Poll with everything paused: while Postgres is away, the group shall not take us for dead."""
        consumer.pause(partitions)
        with contextlib.suppress(KafkaError):
            await consumer.poll(1, 0.0)

    async def first_stands(
        self, consumer: RequestConsumer, places: dict[TopicPartition, Place], committed: dict[TopicPartition, int]
    ) -> dict[Place, Stand]:
        """Where partitions stand; those never seen get their first position, before anything is fetched (I1)."""
        stands = await self.store.read_positions(places.values())
        fresh = [each for each, place in places.items() if place not in stands and each not in committed]
        if not fresh:
            return stands
        known = await self.store.known_topics()
        # What a topic grows by while we consume it is read whole, wherever a topic never seen would start.
        grown = [each for each in fresh if self.start_at == "earliest" or places[each].topic_id in known]
        offsets = await consumer.first_offsets(grown)
        offsets |= await consumer.last_offsets(each for each in fresh if each not in offsets)
        await self.store.ensure_positions({places[each]: (each.topic, offsets[each]) for each in fresh})
        return await self.store.read_positions(places.values())

    async def halt(
        self,
        partition: TopicPartition,
        place: Place,
        reason: str,
        position: int,
        *,
        lasting: bool = True,
        lost: Divergence | None = None,
    ) -> None:
        """Halt and pause one partition, loudly; the others go on (I4, I6). What does not last is tried each minute."""
        if lost:
            reason = lost.reason
        self.halted[partition] = Halted(place, position)
        self.assigned.pop(partition, None)
        halted = sum(each.topic == partition.topic for each in self.halted)
        metrics.partitions_halted.labels(partition.topic).set(halted)
        log.error(
            "partition.halted",
            topic=partition.topic,
            partition=partition.partition,
            reason=reason,
            mend=mend_of(partition, reason),
        )
        if lasting:
            code, first = (HaltCode.DIVERGED, lost.first) if lost else (None, None)
            await self.store.halt_partition(place, reason, position, code, first)
        else:
            self.denied.add(partition)

    async def halt_out_of_range(self, error: OffsetOutOfRangeError) -> None:
        """Halt the partitions whose position the broker no longer has, unless it has by now."""
        consumer = self.consumer
        if consumer is None:
            return
        offsets: dict[TopicPartition, int] = dict(error.args[0])
        places = {each: self.assigned[each].place for each in offsets if each in self.assigned}
        stands = await self.store.read_positions(places.values())
        diverged = await find_diverged(consumer, self.store, places, stands, await consumer.describe())
        for partition, offset in offsets.items():
            mine = self.assigned.get(partition)
            first = (await consumer.first_offsets([partition]))[partition]
            last = (await consumer.last_offsets([partition]))[partition]
            if mine is not None and not first <= offset <= last:
                reason = f"position {offset} is outside the topic, which holds {first} to {last}"
                await self.halt(partition, mine.place, reason, offset, lost=diverged.get(partition))

    async def check(self, consumer: RequestConsumer) -> None:
        """About once a second: pause topics whose backlog is full; each minute: is it still the same topic?"""
        now = time.monotonic()
        if now - self.checked_at < CHECK_SECONDS:
            return
        self.checked_at = now
        paused = await self.store.paused_topics()
        if paused != self.paused_topics:
            consumer.pause(each for each in self.assigned if each.topic in paused)
            consumer.resume(each for each in self.assigned if each.topic in self.paused_topics - paused)
            log.info("topics.paused", topics=sorted(paused))
            self.paused_topics = paused
        await self.lag.measure(consumer, self.assigned, self.halted, paused, self.clock_offset)
        if now - self.topics_checked_at >= TOPIC_CHECK_SECONDS:
            self.topics_checked_at = now
            await self.check_topics(await consumer.describe())

    async def check_topics(self, cluster: Cluster) -> None:
        """Learn of topics of which nothing is fetched any more, of the clock, and of an operator's word."""
        held: dict[TopicPartition, Assigned | Halted] = {**self.assigned, **self.halted}
        if topic := recreated(held, cluster, held):
            self.seen_assignments = None
            log.warning("topic.recreated", topic=topic)
            return
        self.clock_offset = await self.store.database_clock() - time.monotonic()
        stands = await self.store.read_positions(each.place for each in self.halted.values()) if self.halted else {}
        if self.denied or any(stand.halted_reason is None for stand in stands.values()):
            self.denied.clear()
            self.seen_assignments = None  # an operator has resumed what was halted, or may have granted it

    async def close(self) -> None:
        """Leave the group; what is in flight is dropped, it is still in Kafka."""
        await self.discard("close")
        await self.drop_consumer()
