"""What the sealer reads and writes; and how any batch is made of parts (sealing, splitting)."""

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from penstock.core.batch import Verdict, split_by_deadline
from penstock.core.chunk import FORMAT, Manifest, decode_manifest
from penstock.core.errors import Superseded
from penstock.core.filling import Sizes, SizesOf, cut
from penstock.core.identity import new_id, slot_of
from penstock.core.lane import LaneKey
from penstock.core.quota import Ahead
from penstock.core.spending import Spent
from penstock.core.turn import Turn
from penstock.core.window import (
    NOTHING,
    PROBE_SECONDS_MAX,
    ChunkSummary,
    Part,
    Sealed,
    SealReason,
    Size,
    WindowLimits,
)
from penstock.postgres.database import Connection, Database, Held, Record, columns
from penstock.postgres.intake_store import lane_key
from penstock.telemetry.failpoint import failpoint

CHUNKS_PER_SEAL = 10_000
"""Chunks read of one lane in one seal; 50,000 requests at 5 a chunk."""
CHUNKS_PER_EXPIRY = 10
"""Chunks of which one batch answers what is past its deadline: a batch holds at most 50,000 requests."""


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """A lane's unsealed requests, added up, and what is known of its model's tokens."""

    lane_id: int
    key: LaneKey
    size: Size
    age_seconds: float
    priority: int
    """The first of its requests'."""
    flush: bool
    learned_limit: int | None
    factor: float
    probing: bool
    probe_running: bool
    """A probe is under way, for less than its bound: nothing else of the lane is sealed."""
    probe_overdue: bool = False
    """A probe takes longer than its bound, and holds nothing up any more."""


@dataclass(frozen=True, slots=True)
class Birth:
    """What a new batch inherits."""

    lane_id: int
    slots: int
    root_id: uuid.UUID | None = None
    lines_lost: int = 0
    sealed_at: datetime | None = None
    """Its parent's time when it was cut out of another batch: it keeps its place in the queue."""


class Backlog(NamedTuple):
    """What a request topic holds in Postgres, and what pauses its intake."""

    bytes: int
    full: bool
    held: bool
    """By an operator."""


PlanOf = Callable[[Sequence[ChunkSummary], SizesOf], list[Sealed]]


class WindowStore:
    """Sealing takes prefixes of named chunks and demands of each the count already taken (S1)."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @failpoint("sealer.windows")
    async def windows(self) -> list[OpenWindow]:
        """Every lane that has unsealed requests in a format that this version knows."""
        return [
            OpenWindow(
                row["lane_id"],
                lane_key(row),
                Size(row["requests"], row["bytes"], row["tokens"], row["inputs"]),
                row["age_seconds"],
                row["priority"],
                bool(row["flush"]),
                row["learned_limit"],
                row["factor"],
                row["probing"],
                row["probe_running"],
                row["probe_overdue"],
            )
            for row in await self.database.fetch("windows", FORMAT, PROBE_SECONDS_MAX)
        ]

    @failpoint("sealer.ahead")
    async def ahead(self) -> dict[tuple[str, str], dict[int, Ahead]]:
        """What is sealed and waits for tokens, by account and model and by priority."""
        found: dict[tuple[str, str], dict[int, Ahead]] = {}
        rows = await self.database.fetch("sealed_ahead")
        for row in rows:
            model = found.setdefault((row["account"], row["model"]), {})
            model[row["priority"]] = Ahead(row["batches"], row["tokens"])
        return found

    @failpoint("sealer.seal")
    async def seal(self, lease: Held, birth: Birth, plan: PlanOf, *, dead: bool) -> list[tuple[uuid.UUID, Sealed]]:
        """Seal a lane's windows in one transaction: lock the lane, then read, plan, take and write.

        Args:
            lease: the sealer's.
            birth: lane and number of slots.
            plan: the pure function that decides, from summaries and the sizes inside a chunk.
            dead: the lane has no provider: its batches are ready to be decided at once.

        Raises:
            Superseded: the lease is lost, or a chunk was taken by somebody else.
        """
        async with self.database.transaction(lease) as connection:
            await connection.row("lock_lane", birth.lane_id)
            rows = await connection.fetch("unsealed_chunks", birth.lane_id, CHUNKS_PER_SEAL, FORMAT)
            sizes: dict[uuid.UUID, Sizes] = {}
            summaries = [chunk_summary(row) for row in rows]
            sealed = await planned(connection, summaries, plan, sizes)
            await take(connection, summaries, sealed, sizes)
            deadlines = {row["id"]: row["deadline_at"] for row in rows}
            verdict = Verdict("rejected", "") if dead else None
            batches = []
            for each in sealed:
                deadline_at = min(deadlines[part.chunk_id] for part in each.parts)
                batches.append((await insert_batch(connection, birth, each, deadline_at, verdict=verdict), each))
            return batches

    @failpoint("sealer.overdue_lanes")
    async def overdue_lanes(self) -> dict[int, LaneKey]:
        """Lanes in which something unsealed has passed its deadline, halted or not, by id."""
        return {row["id"]: lane_key(row) for row in await self.database.fetch("overdue_lanes", FORMAT)}

    @failpoint("sealer.expire")
    async def expire(self, lease: Held, birth: Birth, limits: WindowLimits) -> int:
        """Answer what has passed its deadline before it was sealed (W6): seal it with a verdict.

        What shares a chunk with it and still has time is sealed beside it, within the lane's limits.

        Returns:
            Batches sealed.
        """
        async with self.database.transaction(lease) as connection:
            await connection.row("lock_lane", birth.lane_id)
            rows = await connection.fetch("overdue_chunks", birth.lane_id, CHUNKS_PER_EXPIRY, FORMAT)
            summaries = [chunk_summary(row) for row in rows]
            parts = [Part(each.id, each.taken, each.left.requests) for each in summaries]
            manifests = await read_manifests(connection, parts)
            sizes = {chunk_id: request_sizes(each) for chunk_id, each in manifests.items()}
            now = await connection.value("database_clock")
            batches: list[tuple[Sequence[Part], Verdict | None]] = []
            for piece, verdict in split_by_deadline(parts, lambda each: manifests[each].deadlines, now):
                if verdict is None:
                    batches += [(each.parts, None) for each in cut(piece, limits, sizes.__getitem__)]
                else:
                    batches.append((piece, verdict))
            for inside, verdict in batches:
                size, deadline_at = await measure(connection, inside)
                sealed = Sealed(tuple(inside), size, SealReason.DEADLINE)
                await insert_batch(connection, birth, sealed, deadline_at, verdict=verdict)
            await take(connection, summaries, [Sealed(tuple(parts), NOTHING, SealReason.DEADLINE)], {})
            return len(batches)

    @failpoint("sealer.creates_pace")
    async def creates_pace(self, account: str) -> tuple[int, int]:
        """Creates of the account's last hour, and batches sealed that are not created yet."""
        (row,) = await self.database.fetch("creates_pace", account)
        return row["used"], row["waiting"]

    @failpoint("sealer.spending")
    async def spending(self) -> list[Spent]:
        """What each lane has spent today and yesterday (UTC), and what it has under way."""
        figures = ("today_usd", "open_tokens", "priced_usd", "priced_tokens")
        rows = await self.database.fetch("spending")
        return [Spent(lane_key(row), *(row[name] for name in figures)) for row in rows]

    @failpoint("sealer.record_backlog")
    async def record_backlog(self, limits: Mapping[str, int]) -> dict[str, Backlog]:
        """Add up each request topic's bytes and hold them against its limit; a paused one resumes at 80 % of it.

        Args:
            limits: bytes, by topic; a topic that is consumed no more is left out.

        Returns:
            What each topic holds, and whether its intake pauses.
        """
        async with self.database.transaction() as connection:
            measured = {row["topic"]: row["stored_bytes"] for row in await connection.fetch("measure_backlog")}
            rows = await connection.fetch(
                "record_backlog", list(limits), [measured.get(name, 0) for name in limits], list(limits.values())
            )
            return {row["topic"]: Backlog(row["stored_bytes"], row["paused"], row["held"]) for row in rows}


def chunk_summary(row: Record) -> ChunkSummary:
    """What sealing reads of a chunk."""
    return ChunkSummary(
        row["id"],
        row["taken"],
        Size(row["requests"], row["left_bytes"], row["left_tokens"], row["left_inputs"]),
        row["age_seconds"],
        Turn(row["priority"], row["share"]),
    )


async def planned(
    connection: Connection, summaries: Sequence[ChunkSummary], plan: PlanOf, sizes: dict[uuid.UUID, Sizes]
) -> list[Sealed]:
    """Run the pure plan, fetching the manifest of a chunk only when the plan asks to cut it."""
    while True:
        try:
            return plan(summaries, sizes.__getitem__)
        except KeyError as asked:
            chunk_id = asked.args[0]
            sizes[chunk_id] = request_sizes(await read_manifest(connection, chunk_id))


def request_sizes(manifest: Manifest) -> Sizes:
    """The size of each request of a chunk."""
    return Sizes(Size(1, *each) for each in zip(manifest.lengths, manifest.tokens, manifest.inputs, strict=True))


async def read_manifest(connection: Connection, chunk_id: uuid.UUID) -> Manifest:
    """A chunk's manifest.

    Raises:
        Superseded: it is not there, because the ring turned while we looked or the chunk is gone.
    """
    body = await connection.value("manifest_of", chunk_id)
    if body is None:
        raise Superseded(f"manifest of chunk {chunk_id} is not there")
    return decode_manifest(body)


async def read_manifests(connection: Connection, parts: Sequence[Part]) -> dict[uuid.UUID, Manifest]:
    """The manifests of the chunks of parts.

    Raises:
        Superseded: one is not there.
    """
    return {part.chunk_id: await read_manifest(connection, part.chunk_id) for part in parts}


async def take(
    connection: Connection,
    summaries: Sequence[ChunkSummary],
    sealed: Sequence[Sealed],
    sizes: dict[uuid.UUID, Sizes],
) -> None:
    """Mark what the sealed windows take of each chunk.

    Raises:
        Superseded: a chunk was not at the count that the plan stood on.
    """
    taken: dict[uuid.UUID, int] = {}
    for part in (part for each in sealed for part in each.parts):
        taken[part.chunk_id] = taken.get(part.chunk_id, 0) + part.requests
    rows = []
    for summary in summaries:
        count = taken.get(summary.id, 0)
        if not count:
            continue
        size = summary.left
        if count < summary.left.requests:
            size = sizes[summary.id].between(summary.taken, summary.taken + count)
        rows.append((summary.id, summary.taken, count, size.bytes, size.tokens, size.inputs))
    if rows and await connection.execute("take_chunks", *columns(rows, 6)) != len(rows):
        raise Superseded("a chunk was taken by another sealer")


async def insert_batch(
    connection: Connection,
    birth: Birth,
    sealed: Sealed,
    deadline_at: datetime,
    *,
    verdict: Verdict | None = None,
) -> uuid.UUID:
    """Write a batch and its parts; with a verdict it needs no provider and is ready to be decided."""
    batch_id = new_id()
    await connection.execute(
        "insert_batch",
        batch_id,
        birth.lane_id,
        birth.root_id or batch_id,
        slot_of(batch_id, birth.slots),
        sealed.reason.value,
        *sealed.size,
        deadline_at,
        birth.lines_lost,
        verdict is not None,
        verdict.code if verdict else None,
        verdict.message if verdict else None,
        birth.sealed_at,
        [part.chunk_id for part in sealed.parts],
    )
    rows = [(ordinal, part.chunk_id, part.first, part.requests) for ordinal, part in enumerate(sealed.parts)]
    await connection.execute("insert_parts", batch_id, *columns(rows, 4))
    return batch_id


async def measure(connection: Connection, parts: Sequence[Part]) -> tuple[Size, datetime]:
    """The size of parts and their earliest deadline, from their chunks' manifests."""
    total = NOTHING
    deadline = math.inf
    for part in parts:
        manifest = await read_manifest(connection, part.chunk_id)
        inside = slice(part.first, part.first + part.requests)
        columns_inside = (manifest.lengths[inside], manifest.tokens[inside], manifest.inputs[inside])
        total = total.plus(Size(part.requests, *map(sum, columns_inside)))
        deadline = min(deadline, *manifest.deadlines[inside])
    return total, datetime.fromtimestamp(deadline, UTC)


async def split_batch(
    connection: Connection,
    parent_id: uuid.UUID,
    birth: Birth,
    pieces: Sequence[tuple[Sequence[Part], Verdict | None]],
) -> list[uuid.UUID]:
    """Let a batch's positions live on in other batches; each with a verdict, or to be submitted.

    The caller has locked the batch in a state from which it may be split. Nothing of it is read or written again.
    """
    await connection.execute("move_to_split", parent_id)
    await connection.execute("delete_parts", parent_id)
    await connection.execute("delete_reservation", [parent_id])
    children = []
    for parts, verdict in pieces:
        size, deadline_at = await measure(connection, parts)
        sealed = Sealed(tuple(parts), size, SealReason.SPLIT)
        children.append(await insert_batch(connection, birth, sealed, deadline_at, verdict=verdict))
    await connection.execute("inherit_cancel", parent_id, children)
    return children
