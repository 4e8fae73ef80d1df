"""A slot's session: one producer, one reading of the ledger, and the slot's batches until none is ready.

Every session begins from nothing: start the producer, read the ledger, then read from Postgres that the lease is still
ours and what is unpublished (P1). Nothing from memory survives a start.
"""

import asyncio
import logging
import os
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import structlog
from aiokafka.errors import TopicAuthorizationFailedError, UnknownTopicOrPartitionError

from penstock.core.answered import NOTHING_ANSWERED
from penstock.core.batch import BatchState
from penstock.core.chunk import Manifest, read_lines
from penstock.core.decision import Decision, Outcome
from penstock.core.errors import Halted, PenstockError, ProviderDenied, ProviderError, Superseded, UnknownFormat
from penstock.core.ledger import LedgerRecord, disagreement, encode_ledger
from penstock.core.publication import Publication, may_overflow, shared_headers, traces
from penstock.core.retry import CALL
from penstock.core.window import Part
from penstock.kafka.ledger import read_ledger
from penstock.kafka.result_producer import RecordTooLarge, ResultProducer
from penstock.postgres.batch_row import BatchRow
from penstock.spool import off_loop
from penstock.stages.downloader import Spooled
from penstock.stages.lease import Lease
from penstock.stages.slot_tools import Patience, SlotTools
from penstock.stages.stage import describe as describe_error
from penstock.telemetry import metrics

log = structlog.get_logger()

SLICE = 500
SLICE_BYTES = 8 * 1024 * 1024
"""Positions and bytes of results that are built at a time, off the loop."""
REFUSED_BYTES = 256 * 1024
"""Half of it is what a topic may take that refused a record for its size, and half of that when it did so again."""
REFUSED_BYTES_MIN = 1024
RESTORED = "penstock resume restored"
PASSING = (ProviderError, OSError, PenstockError)
"""Why a batch may not be decided now."""
REFUSED_BY_TOPIC = (UnknownTopicOrPartitionError, TopicAuthorizationFailedError)


class SlotSession:
    """One lease of one slot.

    Raises (from `run`):
        Halted: ledger and Postgres disagree; nothing was published.
        KafkaError, TimeoutError: the producer is beyond use; a new session will find out what was committed.
        Superseded: the lease is gone.
    """

    def __init__(self, slot: int, lease: Lease, producer: ResultProducer, client_id: str, tools: SlotTools) -> None:
        self.slot = slot
        self.lease = lease
        self.producer = producer
        self.client_id = client_id
        self.tools = tools
        self.store = tools.store
        self.ledger: dict[uuid.UUID, LedgerRecord] = {}
        self.answered = NOTHING_ANSWERED
        self.open = False
        self.clock_offset = 0.0

    def now(self) -> float:
        """The database's clock, in Unix seconds: brokers refuse records of a replica whose own runs an hour ahead."""
        return time.monotonic() + self.clock_offset

    async def run(self, drain: asyncio.Event, progressed: Callable[[], None]) -> int:
        """Work off the slot's ready batches while there are any, say so of each, and return how many were finished."""
        finished = 0
        try:
            await self.producer.start()
            await self.read_ledger()
            self.clock_offset = await self.tools.collector.store.database_clock() - time.monotonic()
            while not drain.is_set():
                ready = [each for each in await self.store.batches(self.lease, self.slot) if self.due(each)]
                if not ready:
                    break
                for batch_id in ready:
                    if drain.is_set():
                        break
                    if await self.work(batch_id):
                        finished += 1
                        progressed()
            await self.clear_keys()
        finally:
            await self.producer.stop()
        return finished

    async def read_ledger(self) -> None:
        """Read how far every batch of the slot is published, and hold it against Postgres (P2, P6)."""
        topic = self.tools.kafka.ledger_topic
        ledger = await self.producer.describe(topic)
        if ledger is None or ledger.id != self.tools.ledger_topic_id:
            raise Halted(
                f"{topic} is not the ledger that this deployment was bound to",
                "set PENSTOCK_KAFKA_LEDGER_TOPIC to the ledger's name, or bring the topic back",
            )
        self.ledger = await read_ledger(self.tools.kafka, topic, self.slot, self.client_id, 60.0)
        known, self.answered = await self.store.known(self.lease, self.ledger)
        if reason := disagreement(self.ledger, {each: row.decision_id for each, row in known.items()}):
            raise Halted(reason, RESTORED)
        expected = await self.store.expected(self.lease, self.slot, self.tools.ledger_grace_seconds / 2)
        for batch_id, position in expected.items():
            found = self.ledger.get(batch_id)
            if found is None or found.next_position < position:
                raise Halted(
                    f"the ledger is behind Postgres for batch {batch_id}: it lost data",
                    "set the ledger topic to cleanup.policy=compact alone, then: penstock resume restored",
                )

    def due(self, batch_id: uuid.UUID) -> bool:
        """Whether a batch that failed before may be tried again."""
        patience = self.tools.patience.get(batch_id)
        return patience is None or time.monotonic() >= patience.until

    async def work(self, batch_id: uuid.UUID) -> bool:
        """Decide and publish one batch; returns whether it is finished here: published, or sent again.

        One that cannot be decided now waits, and the slot goes on. Any failure while it is published ends the session:
        what was committed stands in the ledger alone (P1). The batch waits then, too, and is not the first again.
        """
        publishing = False
        try:
            batch = await self.tools.collector.store.load(batch_id)
            if batch.state is BatchState.DECIDED:  # one of another version is known before anything is downloaded
                await self.tools.collector.store.read_decision(batch_id)
            async with self.files(batch) as spooled:
                if batch.state is BatchState.ENDED:
                    if not await self.tools.collector.decide(self.lease, batch, spooled, self.answered):
                        self.tools.patience.pop(batch_id, None)
                        return True
                    batch = await self.tools.collector.store.load(batch_id)
                publishing = True
                await self.publish(batch, spooled)
        except (Halted, Superseded):
            raise
        except Exception as error:
            self.wait(batch_id, error)
            if isinstance(error, REFUSED_BY_TOPIC):
                metrics.batches_parked.inc()
                reason = type(error).__name__
                log.error("batch.parked", batch=str(batch_id), error=reason)  # noqa: TRY400 - no trace helps
                await self.store.park(self.lease, batch_id, reason)
            if isinstance(error, RecordTooLarge):
                self.tools.refused_sizes[batch_id] += 1
            if isinstance(error, UnknownFormat):
                metrics.formats_unknown.labels(error.kind).inc()
                log.warning("format.unknown", kind=error.kind, batch=str(batch_id), error=str(error))
            if publishing or not isinstance(error, PASSING):
                raise
            return False
        self.tools.patience.pop(batch_id, None)
        self.tools.refused_sizes.pop(batch_id, None)
        return True

    def wait(self, batch_id: uuid.UUID, error: Exception) -> None:
        """Let a batch wait, longer each time."""
        patience = self.tools.patience.setdefault(batch_id, Patience())
        patience.failures += 1
        delay = CALL.delay_seconds(patience.failures, 0.5)
        patience.until = time.monotonic() + delay
        log.warning("batch.waits", batch=str(batch_id), error=describe_error(error), seconds=round(delay))

    @asynccontextmanager
    async def files(self, batch: BatchRow) -> AsyncIterator[Spooled | None]:
        """The batch's files in the spool; None when it has or needs none."""
        local = batch.key.dead or batch.verdict is not None or batch.abandoned
        refused = batch.provider_status == "failed" and not (batch.output_file_id or batch.error_file_id)
        if local or refused:
            yield None
            return
        async with AsyncExitStack() as stack:
            try:
                spooled = await stack.enter_async_context(self.tools.downloader.spooled(batch, self.lease))
            except (ProviderError, OSError) as error:
                metrics.downloads_failed.labels(batch.key.account).inc()
                if isinstance(error, ProviderDenied):
                    await self.tools.downloader.denied(batch.key.account, error)
                raise
            await self.tools.downloader.allowed(batch.key.account)
            yield spooled

    async def publish(self, batch: BatchRow, spooled: Spooled | None) -> None:
        """Send a decided batch's results from where the ledger says, in transactions, then mark it."""
        decision_id, decision = await self.tools.collector.store.read_decision(batch.id)
        record = self.ledger.get(batch.id)
        position = record.next_position if record else 0
        if spooled is not None:
            decision = await self.tools.collector.revise(self.lease, batch, decision, spooled, position, self.answered)
        with ExitStack() as stack:
            publication = self.publication(batch, decision, spooled, stack)
            while position < batch.size.requests and decision.finals:
                with self.tools.size.measured():
                    position = await self.transaction(batch, decision_id, publication, spooled, position)
        least = min(publication.limits.values())
        named = Outcome.UNREADABLE in decision.outcomes  # its error says where to look
        keep = spooled is not None and (named or any(may_overflow(length, least) for length in spooled.lines.lengths))
        await self.store.mark(self.lease, batch.id, position, keep_files=keep)
        self.published(batch, decision)

    def publication(
        self, batch: BatchRow, decision: Decision, spooled: Spooled | None, stack: ExitStack
    ) -> Publication:
        """What all records of the batch share, with its files open."""
        files = [os.open(path, os.O_RDONLY) for path in spooled.paths] if spooled else []
        for file in files:
            stack.callback(os.close, file)
        limits = self.tools.limits
        if refusals := self.tools.refused_sizes[batch.id]:
            taken = max(REFUSED_BYTES >> refusals, REFUSED_BYTES_MIN)
            limits = {topic: min(limit, taken) for topic, limit in limits.items()}

        def line_of(position: int) -> bytes:
            found = spooled.lines.found(position) if spooled else None
            if found is None:
                raise Halted(
                    f"position {position} of batch {batch.id} has no line", "report it: this is a fault of Penstock"
                )
            return os.pread(files[found.file], found.length, found.start)

        def place_of(position: int) -> tuple[str, int]:
            found = (spooled.lines.found(position) or spooled.lines.nameless_at) if spooled else None
            return (spooled.file_ids[found.file], found.start) if spooled and found else ("", 0)

        topic = self.tools.kafka.dead_letter_topic
        return Publication(decision, line_of, place_of, topic, limits, self.answered)

    async def transaction(
        self,
        batch: BatchRow,
        decision_id: uuid.UUID,
        publication: Publication,
        spooled: Spooled | None,
        position: int,
    ) -> int:
        """One Kafka transaction: results from a position on, and the ledger record with them (P3, P4).

        Returns:
            The next position, committed.
        """
        size, records_max = self.tools.size, self.tools.settings.transaction_records_max
        ends_at = time.monotonic() + size.seconds
        await self.begin()
        records = size_bytes = 0
        latencies: list[float] = []
        dead: Counter[str] = Counter()
        async for manifest, part, start, lines in self.parts(batch, spooled, publication, position):
            for topic in {
                *manifest.result_topics[part.first : part.first + part.requests],
                publication.dead_letter_topic,
            }:
                await self.producer.partitions_of(topic)
            while position < start + part.requests:
                room = min(SLICE_BYTES, size.bytes - size_bytes)
                last = slice_end(position, start + part.requests, spooled, room)
                built = await off_loop(
                    publication.records, manifest, part, start, position, last, lines, self.headers(batch, part)
                )
                if log.is_enabled_for(logging.DEBUG):
                    log.debug("batch.traces", batch=str(batch.id), traces=traces(built))
                fallback, now = self.slot + position // SLICE, self.now()
                full_builders = await asyncio.to_thread(self.producer.append_all, built, fallback, int(now * 1000))
                for full_builder in full_builders:
                    await self.producer.send(*full_builder)
                latencies += [now - manifest.received[part.first + p - start] for p in range(position, last)]
                position = last
                records += len(built)
                dead.update(each.dead for each in built if each.dead)
                size_bytes += sum(len(each.value or b"") for each in built)
                self.lease.progress()
                full = records >= records_max or size_bytes >= size.bytes
                if full or time.monotonic() >= ends_at:
                    break
            else:
                continue
            break
        key, value = encode_ledger(LedgerRecord(batch.id, decision_id, position))
        await self.write_ledger([(key, value)])
        await self.commit()
        metrics.result_latency.observe_many(batch.key.endpoint, (max(0.0, each) for each in latencies))
        for reason, count in dead.items():
            metrics.dead_letters_published.labels(reason).inc(count)
        self.ledger[batch.id] = LedgerRecord(batch.id, decision_id, position)
        await self.store.record(self.lease, batch.id, position)
        return position

    async def begin(self) -> None:
        """Open a transaction."""
        self.open = True
        await self.producer.begin()

    async def commit(self) -> None:
        """Commit, once every send has succeeded and while the lease is still ours."""
        await self.producer.flush()
        self.lease.require()
        await self.producer.commit()
        self.open = False

    async def write_ledger(self, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Add ledger records to the open transaction; a value of None takes the key away."""
        topic, now = self.tools.kafka.ledger_topic, int(self.now() * 1000)
        for key, value in records:
            full = self.producer.append(topic, self.slot, key, value, [], now)
            if full is not None:
                await self.producer.send(topic, self.slot, full)

    async def parts(
        self, batch: BatchRow, spooled: Spooled | None, publication: Publication, position: int
    ) -> AsyncIterator[tuple[Manifest, Part, int, list[bytes] | None]]:
        """The parts that hold the positions from ``position``: manifest, part, its first position, lines if needed."""
        start = 0
        for part in batch.parts:
            end = start + part.requests
            if position < end:
                manifest = await self.tools.reader.manifest(part.chunk_id)
                lengths = spooled.lines.lengths[start:end] if spooled else ()
                lines = None
                least = min(publication.limits.values())
                if batch.key.dead or any(may_overflow(length, least) for length in lengths):
                    payload = await self.tools.reader.payload(part.chunk_id)
                    lines = await asyncio.to_thread(read_lines, payload, manifest)
                yield manifest, part, start, lines
            start = end

    def headers(self, batch: BatchRow, part: Part) -> list[tuple[str, bytes | None]]:
        """The headers that results of a part share."""
        attempt = batch.attempts[batch.parts.index(part)]
        return shared_headers(batch.id.hex, batch.provider_batch_id, attempt, batch.submitted_at, batch.ended_at)

    def published(self, batch: BatchRow, decision: Decision) -> None:
        """Metrics and the one canonical line of a batch."""
        label = self.tools.collector.lane_label(batch.key)
        counts = {each.name.lower(): decision.outcomes.count(each) for each in Outcome if each in decision.outcomes}
        for name, count in counts.items():
            if name not in ("retry", "resend", "dead_letter", "answered"):
                metrics.results_published.labels(label, name).inc(count)
        metrics.batches_published.labels(label).inc()
        if batch.ended_at:
            metrics.phase_seconds.labels("ended").observe(max(0.0, self.now() - batch.ended_at.timestamp()))
        log.info(
            "batch.published",
            batch=str(batch.id),
            provider_batch=batch.provider_batch_id,
            endpoint=batch.key.endpoint,
            model=batch.key.model,
            status=batch.provider_status,
            requests=batch.size.requests,
            bytes=batch.size.bytes,
            outcomes=counts,
            slot=self.slot,
            creates=batch.creates,
            input_tokens=batch.input_tokens,
            output_tokens=batch.output_tokens,
            sealed_at=batch.sealed_at.isoformat(),
            submitted_at=batch.submitted_at.isoformat() if batch.submitted_at else None,
            ended_at=batch.ended_at.isoformat() if batch.ended_at else None,
        )

    async def clear_keys(self) -> None:
        """Take ledger keys away a day after the mark: the slot's owner alone writes its partition (P2, P5)."""
        due = await self.store.ledger_keys_due(self.lease, self.slot, self.tools.ledger_grace_seconds)
        if not due:
            return
        await self.begin()
        await self.write_ledger([(batch_id.hex.encode(), None) for batch_id in due])
        await self.commit()
        await self.store.mark_ledger_cleared(self.lease, due)


def slice_end(position: int, end: int, spooled: Spooled | None, room: int) -> int:
    """The position after those that are built next: so many, or of so many bytes, and at least one."""
    last = min(position + SLICE, end)
    if spooled is None:
        return last
    for each in range(position, last):
        room -= spooled.lines.lengths[each]
        if room < 0:
            return max(each, position + 1)
    return last
