"""The switches: each takes one defence of docs/design.md out of the running code, and nothing else."""

import math
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiokafka import TopicPartition
from openai import AsyncOpenAI

import penstock.stages.poller
import penstock.stages.publisher
import penstock.stages.slot
from penstock.core.chunk import NewChunk
from penstock.core.decision import Decision, Reconciliation
from penstock.core.errors import ProviderUnavailable
from penstock.kafka.ledger import read_ledger
from penstock.kafka.request_consumer import RequestConsumer
from penstock.kafka.result_producer import ResultProducer
from penstock.postgres.database import Connection, Database, Held, columns
from penstock.postgres.intake_store import IntakeStore, Place, Span, Stand
from penstock.postgres.queries import queries
from penstock.postgres.submitter_store import Again, Claim
from penstock.stages.assignment import Polled
from penstock.stages.collector import Collector
from penstock.stages.intake import Intake
from penstock.stages.lease import Lease
from penstock.stages.slot import SlotSession
from penstock.stages.submitter import Submitter
from penstock.telemetry.failpoint import failpoint

Patch = pytest.MonkeyPatch
Switch = Callable[[Patch], None]


@dataclass(frozen=True, slots=True)
class Defence:
    """One defence: where the design speaks of it, what its switch does, and the switch."""

    name: str
    rules: str
    points: tuple[int, ...]
    off: str
    switch: Switch


DEFENCES: dict[str, Defence] = {}
"""All that can be switched off, by name."""


def defence(rules: str, *points: int) -> Callable[[Switch], Switch]:
    """Register a switch; its docstring says what is off.

    Args:
        rules: of the design.
        points: crash points of the design's table.
    """

    def register(switch: Switch) -> Switch:
        name = switch.__name__
        DEFENCES[name] = Defence(name, rules, points, (switch.__doc__ or "").strip(), switch)
        return switch

    return register


def reword(patch: Patch, query: str, *changes: tuple[str, str]) -> None:
    """Change a query's text; each change must meet a text that stands in it."""
    text = queries()[query]
    for old, new in changes:
        assert old in text, f"{query} no longer says {old!r}"
        text = text.replace(old, new)
    patch.setitem(queries(), query, text)


@defence("way of the data, 1", 1)
def commit_after_store(patch: Patch) -> None:
    """Kafka's offset is committed before the records are stored."""
    store_polled = Intake.store_polled

    async def commit_first(self: Intake, consumer: RequestConsumer, polled: Polled, *others: Any) -> None:
        await consumer.commit({partition: records[-1].offset + 1 for partition, records in polled.records.items()})
        await store_polled(self, consumer, polled, *others)

    patch.setattr(Intake, "store_polled", commit_first)


@defence("I2", 2)
def one_transaction(patch: Patch) -> None:
    """Positions move in a transaction of their own, after that of the chunks."""
    store = IntakeStore.store
    move = queries()["move_positions"]
    patch.setitem(queries(), "move_positions", "SELECT $1::text, $2::uuid[], $3::integer[], $4::bigint[]")

    async def store_then_move(
        self: IntakeStore, spans: Mapping[Place, Span], chunks: Sequence[tuple[int, NewChunk]]
    ) -> None:
        await store(self, spans, chunks)
        moved = columns([(*place, span.end) for place, span in sorted(spans.items())], 3)
        async with self.database.transaction() as connection:
            await connection.raw.execute(move, self.kafka_cluster_id, *moved)

    patch.setattr(IntakeStore, "store", store_then_move)


@defence("I3", 2)
def discard_in_flight(patch: Patch) -> None:
    """After a failed store intake goes on from what it remembers to have handed on."""

    async def go_on(_: Intake, __: str) -> None:
        return

    patch.setattr(Intake, "discard", go_on)


@defence("way of the data, 1", 3)
def seek_to_position(patch: Patch) -> None:
    """A new owner starts at Kafka's committed offset, not at Postgres' position."""
    first_stands = Intake.first_stands

    async def kafkas(
        self: Intake,
        consumer: RequestConsumer,
        places: dict[TopicPartition, Place],
        committed: dict[TopicPartition, int],
    ) -> dict[Place, Stand]:
        stands = await first_stands(self, consumer, places, committed)
        return {
            place: stands[place]._replace(position=committed.get(partition, 0))
            for partition, place in places.items()
            if place in stands
        }

    patch.setattr(Intake, "first_stands", kafkas)


@defence("I2", 4)
def position_compare(patch: Patch) -> None:
    """Intake stores without comparing the positions with where it left them."""
    store = IntakeStore.store.__wrapped__  # type: ignore[attr-defined]  # without its failpoint

    @failpoint("intake.store")
    async def store_anyway(
        self: IntakeStore, spans: Mapping[Place, Span], chunks: Sequence[tuple[int, NewChunk]]
    ) -> None:
        stands = await self.read_positions(spans)
        await store(self, {place: Span(stands[place].position, span.end) for place, span in spans.items()}, chunks)

    patch.setattr(IntakeStore, "store", store_anyway)


@defence("I1", 4)
def first_position_once(patch: Patch) -> None:
    """Whoever is assigned a partition for the first time sets its position, whatever stands there."""
    key = "(kafka_cluster_id, topic_id, partition)"
    reword(patch, "insert_positions", ("DO NOTHING", f"{key} DO UPDATE SET position = excluded.position"))


@defence("I2, B1", 4)
def idle_limit(patch: Patch) -> None:
    """A transaction may be idle for ever, and keep its locks."""
    connect = Database.connect

    async def patient(self: Database, *given: object, **options: Any) -> Any:
        self.session.pop("idle_in_transaction_session_timeout", None)
        return await connect(self, *given, **options)

    patch.setattr(Database, "connect", patient)


@defence("B1", 7)
def lease_expiry(patch: Patch) -> None:
    """A lease ends only when its holder gives it back."""
    reword(patch, "acquire_lease", ("lease.expires_at < clock_timestamp()", "lease.expires_at = '-infinity'"))
    reword(patch, "claimable_batch", ("l.expires_at < clock_timestamp()", "l.expires_at = '-infinity'"))


@defence("B2", 8)
def deterministic_file(patch: Patch) -> None:
    """A file that was uploaded before is not looked for."""

    async def none(_: Submitter, __: str, ___: int) -> None:
        return

    patch.setattr(Submitter, "find_file", none)


@defence("B2", 9)
def intent_look_up(patch: Patch) -> None:
    """A create whose answer was lost is taken as never made."""

    async def absent(self: Submitter, claim: Claim, lease: Lease) -> None:
        intents = [doubt.id for doubt in claim.doubts]
        await self.store.refused(lease, claim.batch.id, intents, "absent", Again(0.0, refusals=0))

    patch.setattr(Submitter, "look_up", absent)


@defence("B3", 9)
def deciding_scan(patch: Patch) -> None:
    """The first look-up that does not find a create decides that it was never made."""
    look_up = Submitter.look_up

    async def decide_now(self: Submitter, claim: Claim, lease: Lease) -> None:
        doubts = tuple(replace(doubt, age_seconds=math.inf) for doubt in claim.doubts)
        await look_up(self, replace(claim, doubts=doubts), lease)

    patch.setattr(Submitter, "look_up", decide_now)


@defence("B2", 9)
def sdk_create_retries(patch: Patch) -> None:
    """The SDK retries creates as it retries reads."""
    patch.setattr(AsyncOpenAI, "with_options", lambda self, **_: self)


@defence("B1", 10)
def lease_required(patch: Patch) -> None:
    """Nobody looks whether a lease is still held before acting outside Postgres."""
    patch.setattr(Lease, "require", lambda _: None)


@defence("B1", 11)
def epoch_guard(patch: Patch) -> None:
    """Writes are not fenced by the lease's epoch."""
    transaction = Database.transaction

    @asynccontextmanager
    async def unguarded(self: Database, lease: Held | None = None) -> AsyncIterator[Connection]:  # noqa: ARG001 - the same signature
        async with transaction(self) as connection:
            yield connection

    patch.setattr(Database, "transaction", unguarded)


@defence("B1, P5, W4", 13, 20)
def own_clock_and_epoch(patch: Patch) -> None:
    """Neither the holder's own clock nor the lease's epoch stops a write (either alone suffices)."""
    lease_required(patch)
    epoch_guard(patch)


@defence("way of the data, 4", 11)
def forward_only(patch: Patch) -> None:
    """A status is recorded whatever stood there before."""
    patch.setattr(penstock.stages.poller, "rank", lambda _: 0)
    reword(patch, "record_status", ("provider_status = $2 AND provider_open", "$2::text <> ''"))


@defence("W2", 12)
def reconciliation(patch: Patch) -> None:
    """What the provider's files do not speak of is taken as answered."""

    async def nothing(_: Collector, *__: object) -> AsyncIterator[tuple[NewChunk, float]]:
        never: tuple[tuple[NewChunk, float], ...] = ()
        for chunk in never:
            yield chunk

    patch.setattr(Collector, "another_try", nothing)


@defence("W2", 13)
def whole_download(patch: Patch) -> None:
    """Any download is believed, however long it is."""
    download = Collector.download

    async def believe(self: Collector, file_id: str, path: Any, size_bytes: int, lease: Lease) -> None:
        with suppress(ProviderUnavailable):
            await download(self, file_id, path, size_bytes, lease)

    patch.setattr(Collector, "download", believe)


@defence("way of the data, 5", 13)
def lines_by_id(patch: Patch) -> None:
    """The nth line of a file is taken as the answer to the nth request."""

    def next_free(self: Reconciliation, _: str) -> int | None:
        return next((position for position, kind in enumerate(self.kinds) if not kind), None)

    patch.setattr(Reconciliation, "position", next_free)


@defence("W4", 13)
def second_download(patch: Patch) -> None:
    """A second download is not held against the decision that stands on the first."""

    async def as_it_is(_: Collector, __: Lease, ___: Any, decision: Decision, *_____: object) -> Decision:
        return decision

    patch.setattr(Collector, "revise", as_it_is)


@defence("P1, P2", 14, 15, 16)
def ledger_read(patch: Patch) -> None:
    """A publisher starts without reading the ledger."""

    async def unread(_: SlotSession) -> None:
        return

    patch.setattr(SlotSession, "read_ledger", unread)


@defence("P3", 15)
def await_sends(patch: Patch) -> None:
    """A transaction is committed without looking at what became of its sends."""

    async def send_the_rest(self: ResultProducer) -> None:
        left, self.builders = self.builders, {}
        for (topic, partition), builder in left.items():
            await self.send(topic, partition, builder)
        self.sends.clear()

    patch.setattr(ResultProducer, "flush", send_the_rest)


@defence("P1", 14, 20)
def producer_first(patch: Patch) -> None:
    """The ledger is read before the slot's producer has started."""
    run = SlotSession.run
    early: dict[int, Any] = {}

    async def read_then_run(self: SlotSession, drain: Any) -> int:
        topic = self.tools.kafka.ledger_topic
        early[self.slot] = await read_ledger(self.tools.kafka, topic, self.slot, self.client_id, 60.0)
        return await run(self, drain)

    async def remember(_: Any, __: str, slot: int, *___: object) -> Any:
        return early.pop(slot)

    patch.setattr(SlotSession, "run", read_then_run)
    patch.setattr(penstock.stages.slot, "read_ledger", remember)


@defence("P1", 20)
def fence(patch: Patch) -> None:
    """Each producer has a transactional id of its own, so that none fences another."""

    def alone(deployment: str, slot: int) -> str:
        return f"penstock-{deployment}-slot-{slot}-{uuid.uuid4().hex}"

    patch.setattr(penstock.stages.publisher, "transactional_id", alone)


@defence("S1", 19)
def lane_lock_and_exact_count(patch: Patch) -> None:
    """Sealing neither locks the lane nor demands of chunks the count that it read (either alone suffices)."""
    reword(patch, "lock_lane", (" FOR UPDATE", ""))
    reword(patch, "take_chunks", (" AND c.taken = t.taken", ""), ("taken = c.taken +", "taken = t.taken +"))
