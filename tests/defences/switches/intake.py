"""Intake: messages are stored once, and nothing is skipped silently."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

import penstock.kafka.request_consumer
import penstock.stages.log_check
from penstock.core.chunk import NewChunk
from penstock.kafka.leader_epochs import UNTOLD, EpochEnd, EpochQuestion
from penstock.kafka.request_consumer import RequestConsumer
from penstock.kafka.topics import Cluster
from penstock.postgres.database import Database, columns
from penstock.postgres.intake_store import IntakeStore, Place, Span, Stand
from penstock.postgres.queries import queries
from penstock.stages.assignment import Polled
from penstock.stages.intake import Intake
from penstock.telemetry.failpoint import failpoint
from tests.defences.switches.registry import Patch, defence, reword


@defence("way of the data, 1", 1)
def commit_after_store(patch: Patch) -> None:
    """Kafka's offset is committed before the records are stored."""
    store_polled = Intake.store_polled

    async def commit_first(self: Intake, consumer: RequestConsumer, polled: Polled, *others: Any) -> None:
        await consumer.commit(polled.ends)
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


@defence("B1", 4)
def sleepers_end(patch: Patch) -> None:
    """What sleeps amid a statement keeps its locks."""
    reword(patch, "end_sleepers", ("pg_terminate_backend(pid)", "pid"))


@defence("I4", 6)
def no_silent_reset(patch: Patch) -> None:
    """A position that is out of range is reset to where the topic begins."""

    def resetting(*given: Any, **options: Any) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(*given, **{**options, "auto_offset_reset": "earliest"})

    patch.setattr(penstock.kafka.request_consumer, "AIOKafkaConsumer", resetting)


@defence("I5", 6)
def topic_ids(patch: Patch) -> None:
    """A topic is known by its name alone."""
    describe = RequestConsumer.describe

    async def by_name(self: RequestConsumer) -> Cluster:
        cluster = await describe(self)
        names = {
            name: replace(topic, id=uuid.uuid5(uuid.NAMESPACE_DNS, name)) for name, topic in cluster.topics.items()
        }
        return replace(cluster, topics=names)

    patch.setattr(RequestConsumer, "describe", by_name)


@defence("I6", 5)
def went_back(patch: Patch) -> None:
    """What Kafka's group committed is no evidence of what Postgres lost."""
    committed = RequestConsumer.committed

    async def nothing(self: RequestConsumer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await committed(self, partitions)
        return {}

    patch.setattr(RequestConsumer, "committed", nothing)


@defence("I7", 6)
def truncation_seen(patch: Patch) -> None:
    """Nobody asks the leaders where the stored epochs end."""

    async def confirmed(
        _: RequestConsumer, questions: Mapping[TopicPartition, EpochQuestion]
    ) -> dict[TopicPartition, EpochEnd]:
        return dict.fromkeys(questions, UNTOLD)

    patch.setattr(RequestConsumer, "epoch_ends", confirmed)


@defence("I7", 6)
def epoch_of_its_position(patch: Patch) -> None:
    """A stored epoch counts although the position has moved without it."""
    reword(patch, "read_positions", ("WHEN p.leader_epoch_at = p.position THEN", "WHEN true THEN"))


@defence("I8", 6)
def new_incarnation(patch: Patch) -> None:
    """A partition whose log was replaced goes on as if its offsets named the same messages."""
    reword(patch, "resume_partition", ("THEN 1 ELSE 0", "THEN 0 ELSE 0"))


@defence("I7", 6)
def span_confirmed(patch: Patch) -> None:
    """What was fetched is stored whatever its leader says."""
    patch.setattr(penstock.stages.log_check, "doubt", lambda *_: "")
