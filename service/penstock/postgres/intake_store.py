"""What intake keeps: positions, lanes, chunks."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from penstock.core.answered import Answered, AnsweredSpan
from penstock.core.chunk import FORMAT, NewChunk
from penstock.core.errors import Superseded
from penstock.core.lane import LaneKey
from penstock.postgres.audit import note
from penstock.postgres.database import Connection, Database, Record, columns
from penstock.telemetry.failpoint import failpoint


class Place(NamedTuple):
    """A partition of a topic, by the topic's id: a recreated topic is another place (I5)."""

    topic_id: uuid.UUID
    partition: int


class HaltCode(StrEnum):
    """Why a partition is halted, where code decides by it."""

    DIVERGED = "diverged"


class Stand(NamedTuple):
    """Where Postgres says a partition stands."""

    position: int
    halted_reason: str | None
    acknowledged: int
    """What Kafka's group had committed when an operator last resumed the partition; 0 when none did."""
    answered: Sequence[AnsweredSpan] = ()
    """Offsets that are answered already: Postgres lost them (`penstock.core.answered`)."""
    epoch: int | None = None
    """The leader epoch that the position was read under; None when none is known."""
    halt_code: HaltCode | None = None
    diverged_at: int | None = None
    """The first offset that was replaced, when it diverged and the brokers know it."""
    incarnation: int = 0
    """How often the partition was resumed after its log had been replaced."""


class Span(NamedTuple):
    """Records handed on of a partition: from the first to before the last (I2).

    ``epoch`` is the leader epoch in force when their fetching began, ``since`` that of the position they start at.
    """

    start: int
    end: int
    epoch: int | None = None
    since: int | None = None
    incarnation: int = 0


class IntakeStore:
    """Positions are keyed by cluster, topic id and partition, never by consumer group (I1)."""

    def __init__(self, database: Database, kafka_cluster_id: str) -> None:
        self.database = database
        self.kafka_cluster_id = kafka_cluster_id

    @failpoint("intake.ensure_positions")
    async def ensure_positions(self, fresh: Mapping[Place, tuple[str, int]]) -> None:
        """Write the first position of partitions never seen; committed before their first fetch (I1).

        Args:
            fresh: topic name and first position by partition.
        """
        rows = [(place.topic_id, place.partition, topic, position) for place, (topic, position) in fresh.items()]
        async with self.database.transaction() as connection:
            await connection.execute("insert_positions", self.kafka_cluster_id, *columns(rows, 4))

    @failpoint("intake.read_positions")
    async def read_positions(self, places: Iterable[Place]) -> dict[Place, Stand]:
        """Where partitions stand; those never seen are left out."""
        async with self.database.transaction() as connection:
            answered = await read_answered(connection)
            rows = await connection.fetch("read_positions", self.kafka_cluster_id, *columns(list(places), 2))
        return {
            Place(row["topic_id"], row["partition"]): Stand(
                row["position"],
                row["halted_reason"],
                row["acknowledged"],
                answered.of(row["topic_id"].bytes, row["partition"], row["incarnation"]),
                row["epoch"],
                HaltCode(row["halt_code"]) if row["halt_code"] else None,
                row["diverged_at"],
                row["incarnation"],
            )
            for row in rows
        }

    @failpoint("intake.take_epochs")
    async def take_epochs(self, epochs: Mapping[Place, tuple[int, int]]) -> None:
        """Give positions that have no leader epoch the current one, unless they have moved.

        Args:
            epochs: position and epoch by partition.
        """
        rows = [(*place, *epochs[place]) for place in sorted(epochs)]
        async with self.database.transaction() as connection:
            await connection.execute("take_epochs", self.kafka_cluster_id, *columns(rows, 4))

    @failpoint("intake.note_unread")
    async def note_unread(self, unread: Mapping[Place, tuple[int, bool]]) -> None:
        """Show operators what Kafka still holds.

        Args:
            unread: by partition, records that are not stored, and whether an open transaction holds back the next one.
        """
        rows = [(*place, *unread[place]) for place in sorted(unread)]
        async with self.database.transaction() as connection:
            await connection.execute("note_unread", self.kafka_cluster_id, *columns(rows, 4))

    @failpoint("intake.known_topics")
    async def known_topics(self) -> frozenset[uuid.UUID]:
        """Topics of which some partition has a position."""
        return frozenset(row["topic_id"] for row in await self.database.fetch("known_topics", self.kafka_cluster_id))

    @failpoint("intake.halt_partition")
    async def halt_partition(
        self,
        place: Place,
        reason: str,
        position: int,
        code: HaltCode | None = None,
        diverged_at: int | None = None,
    ) -> None:
        """Remember that a partition is halted until an operator resumes it (I4, I6).

        Not if it has moved past ``position`` by now: whoever had it then no longer has it, and wakes late.
        """
        async with self.database.transaction() as connection:
            halted = reason, position, code, diverged_at
            await connection.execute("halt_partition", self.kafka_cluster_id, *place, *halted)

    async def resume_partition(self, place: Place, topic: str, position: int, acknowledged: int) -> None:
        """An operator's word: go on from this position, in a new incarnation if the log was replaced.

        Args:
            place: the partition.
            topic: its topic's name.
            position: the offset of the first record to read.
            acknowledged: what Kafka's group has committed now: no longer evidence that Postgres went back (I6).
        """
        async with self.database.transaction() as connection:
            await connection.execute("resume_partition", self.kafka_cluster_id, *place, topic, position, acknowledged)
            await note(connection, "resume", f"partition {topic} {place.partition}", position=position)

    @failpoint("intake.open_lanes")
    async def open_lanes(self, keys: Sequence[LaneKey], lanes_max: int) -> dict[LaneKey, int]:
        """The ids of lanes; new ones are opened while fewer than ``lanes_max`` are, the others are left out."""
        async with self.database.transaction() as connection:
            known = await read_open_lanes(connection, keys)
            if len(known) == len(keys):
                return known
            await connection.row("lock_lane_count")
            known = await read_open_lanes(connection, keys)  # another replica may have opened the last one meanwhile
            room = lanes_max - await connection.value("count_open_lanes")
            for key in keys:
                if key in known or (room <= 0 and not key.dead):
                    continue
                known[key] = await connection.value("open_lane", *key)
                room -= not key.dead
            return known

    @failpoint("intake.store")
    async def store(self, spans: Mapping[Place, Span], chunks: Sequence[tuple[int, NewChunk]]) -> None:
        """Store a gathering and move the positions, in one transaction that locks them first.

        Args:
            spans: by partition, what this gathering covers.
            chunks: lane id and chunk.

        Raises:
            Superseded: a position is not where this owner left it; nothing was stored (I2).
        """
        order = sorted(spans)
        async with self.database.transaction() as connection:
            rows = await connection.fetch("lock_positions", self.kafka_cluster_id, *columns(order, 2))
            stored = {Place(row["topic_id"], row["partition"]): (row["position"], row["incarnation"]) for row in rows}
            for place in order:
                if stored.get(place) != (spans[place].start, spans[place].incarnation):
                    raise Superseded(f"partition {place.partition} stands at {stored.get(place)}, not where we left it")
            if chunks:
                await store_chunks(connection, chunks)
            moved = [(*place, spans[place].end, spans[place].epoch) for place in order]
            await connection.execute("move_positions", self.kafka_cluster_id, *columns(moved, 4))

    @failpoint("intake.paused_topics")
    async def paused_topics(self) -> frozenset[str]:
        """Topics whose backlog is full."""
        return frozenset(row["topic"] for row in await self.database.fetch("paused_topics"))

    @failpoint("intake.clock")
    async def database_clock(self) -> float:
        """The database's clock, in Unix seconds: ages and deadlines are judged by it alone."""
        rows = await self.database.fetch("database_clock")
        return float(rows[0][0])


async def read_answered(connection: Connection) -> Answered:
    """The requests that are answered although Postgres lost what says so; nearly always none."""
    spans: dict[tuple[bytes, int, int], list[AnsweredSpan]] = {}
    for row in await connection.fetch("read_answered"):
        place = row["topic_id"].bytes, row["partition"], row["incarnation"]
        spans.setdefault(place, []).append(AnsweredSpan(row["first"], row["last"]))
    return Answered(spans)


async def read_open_lanes(connection: Connection, keys: Sequence[LaneKey]) -> dict[LaneKey, int]:
    """The ids of those lanes that are open."""
    rows = await connection.fetch("read_lanes", *columns(keys, 4))
    return {lane_key(row): row["id"] for row in rows if not row["closed"]}


def lane_key(row: Record) -> LaneKey:
    """The lane named by a row's columns."""
    return LaneKey(row["account"], row["endpoint"], row["model"], row["completion_window"])


def at(seconds: float) -> datetime:
    """A moment, of Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)


async def store_chunks(
    connection: Connection, chunks: Sequence[tuple[int, NewChunk]], delay_seconds: float = 0.0
) -> None:
    """Insert chunks in one statement: state, payload and manifest.

    Args:
        connection: inside the caller's transaction.
        chunks: lane id and chunk.
        delay_seconds: a window may take them only after this (W5).
    """
    rows = [
        (
            chunk.id,
            lane_id,
            chunk.topic,
            *chunk.turn,
            chunk.attempt,
            chunk.tries,
            chunk.size.requests,
            chunk.size.bytes,
            chunk.size.tokens,
            chunk.size.inputs,
            at(chunk.deadline),
            delay_seconds,
            chunk.lines,
            chunk.manifest,
            chunk.unreadable,
            at(chunk.received),
            at(chunk.stored),
        )
        for lane_id, chunk in chunks
    ]
    await connection.execute("store_chunks", *columns(rows, 18), FORMAT)
