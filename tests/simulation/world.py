"""The tables of Postgres and the ledger in memory, the clock, and what the stores' transactions do with batches."""

import heapq
import math
import random
import uuid
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.core import batch as batches
from penstock.core.batch import BatchError, BatchState, Verdict
from penstock.core.chunk import Manifest, NewChunk, decode_manifest, read_lines
from penstock.core.decision import Decision
from penstock.core.filling import Sizes
from penstock.core.identity import new_id
from penstock.core.lane import LaneKey, LanePolicy
from penstock.core.quota import LEARNED_SECONDS
from penstock.core.turn import Turn
from penstock.core.window import ChunkSummary, Part, Sealed, SealReason, Size, total
from tests.simulation.judge import Judge
from tests.simulation.provider import Provider, Remote
from tests.simulation.scenario import START, Scenario, draw

SLOTS = 2
TICK_SECONDS = 7200.0
ROUND_SECONDS = 20.0
LIVE = (BatchState.SEALED, BatchState.CREATING, BatchState.SUBMITTED, BatchState.ENDED, BatchState.DECIDED)


@dataclass(slots=True, eq=False)
class Lane:
    """A lane's row, and its unsealed chunks."""

    key: LaneKey
    policy: LanePolicy
    probing_at: float | None = None
    halted: bool = False
    chunks: list["Chunk"] = field(default_factory=list)
    sealed: int = 0
    """Windows sealed of it."""


@dataclass(slots=True)
class Quota:
    """What is known of a model's tokens."""

    learned_limit: int | None = None
    learned_at: float = -math.inf
    probing: bool = False
    factor: float = 1.0


@dataclass(slots=True, eq=False)
class Chunk:
    """A chunk's row, its payload and its manifest."""

    number: int
    id: uuid.UUID
    lane: Lane
    turn: Turn
    attempt: int
    tries: int
    stored: float
    manifest: Manifest
    lines: list[bytes]
    sizes: Sizes
    created_at: float
    not_before: float
    deadline_at: float
    left: Size
    taken: int = 0

    def summary(self, now: float) -> ChunkSummary:
        """What the sealer reads of it."""
        return ChunkSummary(self.id, self.taken, self.left, now - max(self.created_at, self.not_before), self.turn)


@dataclass(slots=True, eq=False)
class Intent:
    """A create that was announced."""

    number: int
    at: float
    remote: Remote | None = None
    """What it made, whether its answer was lost or not."""
    lands_at: float = 0.0
    looked_up_at: float = -math.inf


@dataclass(slots=True, eq=False)
class Batch:
    """A batch's row, with its parts."""

    number: int
    id: uuid.UUID
    lane: Lane
    parts: tuple[Part, ...]
    size: Size
    deadline_at: float
    sealed_at: float
    lines_lost: int = 0
    root: "Batch | None" = None
    creates: int = 0
    """Of the window that it is the root of."""
    own_creates: int = 0
    state: BatchState = BatchState.SEALED
    refusals: int = 0
    not_before: float = 0.0
    intent: Intent | None = None
    """In doubt."""
    remote: Remote | None = None
    status: str = ""
    open: bool = False
    """At the provider."""
    errors: tuple[BatchError, ...] = ()
    expires_at: float = 0.0
    cancel_requested_at: float | None = None
    abandoned: bool = False
    verdict: Verdict | None = None
    decision: Decision | None = None
    decision_id: uuid.UUID | None = None
    attempts: tuple[int, ...] = ()
    """Of each part."""
    priority: int = 0
    """The first of its chunks'."""
    offsets: list[int] = field(default_factory=list)
    """Its requests, in the order of its positions."""

    @property
    def window(self) -> "Batch":
        """The window that it was cut out of, itself if none."""
        return self.root or self


class World:
    """All there is, at a moment."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.scenario: Scenario = draw(self.chance)
        self.provider = Provider(self.scenario, self.chance)
        self.judge = Judge(self.scenario)
        self.now = START
        self.wakes: list[float] = [at for at, _ in self.scenario.polls]
        self.trace: list[tuple[Any, ...]] = []
        self.lanes: dict[LaneKey, Lane] = {}
        self.quotas: dict[str, Quota] = {}
        self.chunks: dict[uuid.UUID, Chunk] = {}
        self.live: list[Batch] = []
        self.watched: list[Batch] = []
        """Open at the provider."""
        self.reservations: dict[Batch, int] = {}
        self.intents: list[float] = []
        self.ledger: dict[uuid.UUID, tuple[bytes, bytes]] = {}
        self.polled = 0
        self.sealed_by_age_at = START
        self.born = 0

    def note(self, event: str, *what: object) -> None:
        """Remember an event for the trace of a seed that fails."""
        self.trace.append((self.now, event, *what))

    def wake(self, after_seconds: float) -> None:
        """Run the stages again after so long, on the grid of their rounds."""
        heapq.heappush(
            self.wakes, START + ROUND_SECONDS * math.ceil((self.now + after_seconds - START) / ROUND_SECONDS)
        )

    def creates_of_hour(self) -> int:
        """How many creates were announced in the last hour."""
        return len(self.intents) - bisect_right(self.intents, self.now - 3600)

    def advance(self) -> None:
        """Let time pass until something may have to be done."""
        wakes, now = self.wakes, self.now
        while wakes and wakes[0] <= now:
            heapq.heappop(wakes)
        self.now = min(wakes[0], now + TICK_SECONDS) if wakes else now + TICK_SECONDS

    def lane(self, key: LaneKey) -> Lane:
        """A lane, opened when it is first needed."""
        found = self.lanes.get(key)
        if found is None:
            policy = LanePolicy(age_max_seconds=1.0) if key.dead else self.scenario.lanes.policy(key)
            found = self.lanes[key] = Lane(key, policy)
        return found

    def quota(self, model: str) -> Quota:
        """A model's quota."""
        return self.quotas.setdefault(model, Quota())

    def limit(self, lane: Lane) -> int | None:
        """The enqueued-token limit in force."""
        known = self.quota(lane.key.model)
        fresh = known.learned_at > self.now - LEARNED_SECONDS
        return lane.policy.enqueued_tokens_max or (known.learned_limit if fresh else None)

    def store(self, lane: Lane, new: NewChunk, delay_seconds: float) -> None:
        """Insert a chunk."""
        manifest = decode_manifest(new.manifest)
        sizes = Sizes(Size(1, *each) for each in zip(manifest.lengths, manifest.tokens, manifest.inputs, strict=True))
        not_before = min(self.now + delay_seconds, new.deadline)
        chunk = Chunk(
            len(self.chunks), new.id, lane, new.turn, new.attempt, new.tries, new.stored,
            manifest, read_lines(new.lines, manifest), sizes, self.now, not_before, new.deadline, new.size,
        )  # fmt: skip
        self.chunks[new.id] = chunk
        lane.chunks.append(chunk)
        self.note("stored", chunk.number, lane.key.model, manifest.offsets, f"attempt={new.attempt}", not_before)
        self.wake(max(not_before - self.now, 0.0))
        self.wake(max(not_before - self.now, 0.0) + lane.policy.age_max_seconds)
        self.wake(max(new.deadline - self.now, 0.0))

    def insert(self, lane: Lane, sealed: Sealed, verdict: Verdict | None = None, parent: Batch | None = None) -> Batch:
        """Insert a batch; with a verdict it is ready to be decided."""
        deadline = min(self.chunks[part.chunk_id].deadline_at for part in sealed.parts)
        born = parent.sealed_at if parent else self.now
        batch = Batch(self.born, new_id(), lane, sealed.parts, sealed.size, deadline, born)
        self.born += 1
        batch.attempts = tuple(self.chunks[part.chunk_id].attempt for part in sealed.parts)
        batch.priority = min(self.chunks[part.chunk_id].turn.priority for part in sealed.parts)
        for part in sealed.parts:
            batch.offsets += self.chunks[part.chunk_id].manifest.offsets[part.first : part.first + part.requests]
        if verdict is not None:
            batch.state, batch.verdict = BatchState.ENDED, verdict
        self.live.append(batch)
        self.note("sealed", batch.number, lane.key.model, sealed.reason.value, batch.offsets, verdict)
        self.wake(1.0)
        self.wake(max(deadline - self.now, 0.0))
        return batch

    def move(self, batch: Batch, state: BatchState) -> None:
        """Move a batch; the database's trigger refuses what is no transition."""
        assert state in batches.TRANSITIONS[batch.state], (batch.number, batch.state, state)
        self.note("moved", batch.number, batch.state.value, state.value)
        batch.state = state
        if state in (BatchState.SPLIT, BatchState.PUBLISHED):
            self.live.remove(batch)
        self.wake(1.0)

    def release(self, batch: Batch) -> None:
        """Give back a batch's tokens; twice is once (S3)."""
        self.reservations.pop(batch, None)

    def send_again(self, batch: Batch, delay_seconds: float, refusals: int, wake_seconds: float | None = None) -> None:
        """Let a batch wait, without its reservation."""
        self.release(batch)
        if batch.state is not BatchState.SEALED:
            self.move(batch, BatchState.SEALED)
        batch.not_before = self.now + delay_seconds
        batch.refusals += refusals
        batch.remote, batch.status, batch.errors, batch.cancel_requested_at = None, "", (), None
        self.wake(delay_seconds if wake_seconds is None else wake_seconds)

    def split(
        self,
        parent: Batch,
        pieces: Sequence[tuple[Sequence[Part], Verdict | None]],
        lines_lost: int,
        *,
        keeps_window: bool = True,
    ) -> None:
        """Let a batch's positions live on in pieces."""
        self.release(parent)
        self.move(parent, BatchState.SPLIT)
        for parts, verdict in pieces:
            piece = self.insert(
                parent.lane, Sealed(tuple(parts), self.measure(parts), SealReason.SPLIT), verdict, parent
            )
            piece.lines_lost = lines_lost
            piece.deadline_at = self.deadline(parts)
            piece.root = parent.window if keeps_window else None

    def measure(self, parts: Sequence[Part]) -> Size:
        """The size of parts."""
        return total(size for part in parts for size in self.sizes_of(part.chunk_id)[part.first :][: part.requests])

    def deadline(self, parts: Sequence[Part]) -> float:
        """The earliest deadline of what is in parts."""
        return min(each for part in parts for each in self.deadlines_of(part.chunk_id)[part.first :][: part.requests])

    def sizes_of(self, chunk_id: uuid.UUID) -> Sizes:
        """The sizes of a chunk's requests."""
        return self.chunks[chunk_id].sizes

    def deadlines_of(self, chunk_id: uuid.UUID) -> list[float]:
        """The deadlines of a chunk's requests."""
        return self.chunks[chunk_id].manifest.deadlines

    def places(self) -> list[int]:
        """The requests that are in chunks and in batches, with repetitions if there are any."""
        found: list[int] = []
        for lane in self.lanes.values():
            for chunk in lane.chunks:
                found += chunk.manifest.offsets[chunk.taken :]
        for batch in self.live:
            if batch.state is BatchState.DECIDED:
                found += self.judge.unpublished(batch.id)
            else:
                found += batch.offsets
        return found
