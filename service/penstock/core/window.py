"""Windows: when the unsealed chunks of a lane are sealed into batches, and which prefixes each batch takes.

Pure functions of chunk summaries, limits and the database's clock. Windows are cluster-wide: whoever holds the sealer's
lease sees every replica's chunks.
"""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from penstock.core.lane import EMBEDDINGS, LanePolicy
from penstock.core.token import HEADROOM


class SealReason(StrEnum):
    """Why a window was sealed."""

    REQUESTS = "requests"
    BYTES = "bytes"
    INPUTS = "inputs"
    TOKENS = "tokens"
    AGE = "age"
    FLUSH = "flush"
    DEAD_LETTERS = "dead_letters"
    SPLIT = "split"
    DEADLINE = "deadline"


class Size(NamedTuple):
    """What counts against a window's limits; tokens are nominal estimates."""

    requests: int
    bytes: int
    tokens: int
    inputs: int

    def plus(self, other: "Size") -> "Size":
        """The sum."""
        return Size(*(a + b for a, b in zip(self, other, strict=True)))


NOTHING = Size(0, 0, 0, 0)


def total(sizes: Iterable[Size]) -> Size:
    """The sum of any number of sizes."""
    return Size(*map(sum, zip(NOTHING, *sizes, strict=True)))


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """The most that one batch of a lane may hold; tokens None is no limit."""

    requests: int
    bytes: int
    inputs: int
    tokens: int | None

    def reached_by(self, size: Size) -> SealReason | None:
        """The limit that this size has reached: nothing more can join the window."""
        return self.broken_by(size.plus(Size(1, 1, 1, 1)))

    def broken_by(self, size: Size) -> SealReason | None:
        """The limit that this size is over, if any."""
        if size.requests > self.requests:
            return SealReason.REQUESTS
        if size.bytes > self.bytes:
            return SealReason.BYTES
        if size.inputs > self.inputs:
            return SealReason.INPUTS
        if self.tokens is not None and size.tokens > self.tokens:
            return SealReason.TOKENS
        return None


class ChunkSummary(NamedTuple):
    """An unsealed chunk, or what is left of one: ``taken`` requests already belong to batches."""

    id: uuid.UUID
    taken: int
    left: Size
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive requests of a chunk, as a piece of a batch."""

    chunk_id: uuid.UUID
    first: int
    requests: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """One batch to be: its parts in order, its size, and why it was sealed."""

    parts: tuple[Part, ...]
    size: Size
    reason: SealReason


SizesOf = Callable[[uuid.UUID], Sequence[Size]]
"""The size of each request of a chunk; asked only for a chunk that does not fit whole."""


PROBE_REQUESTS = 100
"""The window of a lane whose last batch mostly failed by the provider's fault (W5)."""


def limits_of(
    policy: LanePolicy, endpoint: str, learned_limit: int | None, factor: float, *, probe: bool
) -> WindowLimits:
    """A lane's limits in force.

    Args:
        policy: the lane's configuration; its enqueued-token limit wins over a learned one.
        endpoint: inputs are limited for embeddings alone.
        learned_limit: the model's enqueued-token limit as a failure named it.
        factor: real tokens of a nominal one, by calibration.
        probe: send little until the provider is well again.
    """
    return WindowLimits(
        requests=min(policy.requests_max, PROBE_REQUESTS) if probe else policy.requests_max,
        bytes=policy.bytes_max,
        inputs=policy.inputs_max if endpoint == EMBEDDINGS else policy.requests_max,
        tokens=tokens_of_window(policy.enqueued_tokens_max or learned_limit, factor * HEADROOM),
    )


def tokens_of_window(enqueued_tokens_max: int | None, factor: float) -> int | None:
    """The nominal tokens that one window may hold: a quarter of the model's limit, so that several batches overlap.

    Args:
        enqueued_tokens_max: the provider's limit for the model, in real tokens; None when it is not known.
        factor: what a nominal token is expected to cost (see `penstock.core.token.expected`).
    """
    if enqueued_tokens_max is None:
        return None
    return max(1, int(enqueued_tokens_max / 4 / factor))


WINDOWS_PER_SEAL = 16
"""Windows that one transaction seals of a lane at most; the next round goes on."""


def fill(
    chunks: Sequence[ChunkSummary], limits: WindowLimits, sizes_of: SizesOf, windows_max: int | None = None
) -> list[Sealed]:
    """Cut the chunks, in order, into full windows; the last one may be partly filled and has reason AGE.

    With ``windows_max`` it stops after so many full windows.

    Every window takes at least one request, so that one request over a limit goes alone rather than never (S2).
    """
    windows: list[Sealed] = []
    parts: list[Part] = []
    size = NOTHING

    def close(reason: SealReason) -> None:
        nonlocal size
        windows.append(Sealed(tuple(parts), size, reason))
        parts.clear()
        size = NOTHING

    for chunk in chunks:
        first, left = chunk.taken, chunk.left
        while left.requests:
            if len(windows) == windows_max:
                return windows
            over = limits.broken_by(size.plus(left))
            if over is None:
                parts.append(Part(chunk.id, first, left.requests))
                size = size.plus(left)
                break
            requests, prefix = longest_prefix(sizes_of(chunk.id)[first : first + left.requests], size, limits)
            if requests == 0 and parts:
                close(over)
                continue
            if requests == 0:
                requests, prefix = 1, sizes_of(chunk.id)[first]
            parts.append(Part(chunk.id, first, requests))
            size = size.plus(prefix)
            first += requests
            left = Size(*(a - b for a, b in zip(left, prefix, strict=True)))
            if left.requests:
                close(over)
    if parts:
        close(SealReason.AGE)
    return windows


def cut(parts: Sequence[Part], limits: WindowLimits, sizes_of: SizesOf) -> list[Sealed]:
    """Cut what is taken already, or is to be, into batches within limits, in order."""
    summaries = [
        ChunkSummary(part.chunk_id, part.first, total(sizes_of(part.chunk_id)[part.first :][: part.requests]), 0.0)
        for part in parts
    ]
    return fill(summaries, limits, sizes_of)


def longest_prefix(sizes: Sequence[Size], size: Size, limits: WindowLimits) -> tuple[int, Size]:
    """How many of these requests still fit beside ``size``, and their own size."""
    prefix = NOTHING
    for requests, each in enumerate(sizes):
        more = prefix.plus(each)
        if limits.broken_by(size.plus(more)):
            return requests, prefix
        prefix = more
    return len(sizes), prefix


def seal(
    chunks: Sequence[ChunkSummary], limits: WindowLimits, sizes_of: SizesOf, *, age_max_seconds: float, flush: bool
) -> list[Sealed]:
    """The batches to seal now: every full window, and the unfinished one when it is old enough or flushed.

    Args:
        chunks: the lane's unsealed chunks, oldest first.
        limits: the lane's limits in force.
        sizes_of: the request sizes of a chunk that must be cut.
        age_max_seconds: the age at which an unfinished window is sealed.
        flush: seal the unfinished window whatever its age.
    """
    windows = fill(chunks, limits, sizes_of, WINDOWS_PER_SEAL)
    if not windows or windows[-1].reason is not SealReason.AGE:
        return windows
    last = windows[-1]
    members = {part.chunk_id for part in last.parts}
    old = max(chunk.age_seconds for chunk in chunks if chunk.id in members) >= age_max_seconds
    if full := limits.reached_by(last.size):
        return [*windows[:-1], Sealed(last.parts, last.size, full)]
    if old or flush:
        return [*windows[:-1], Sealed(last.parts, last.size, SealReason.AGE if old else SealReason.FLUSH)]
    return windows[:-1]


def creates_allowed(used: int, waiting: int, per_hour: int, seconds_since_last: float) -> int:
    """How many windows may be sealed by age now, so that an account stays inside its creates per hour.

    The first half of the budget is free; the rest is paced evenly over the hour, so that a burst cannot starve the end.

    Args:
        used: creates of the last hour.
        waiting: batches sealed and not yet created.
        per_hour: the account's budget.
        seconds_since_last: since the last window sealed by age.
    """
    committed, free = used + waiting, per_hour // 2
    if committed < free:
        return free - committed
    if committed >= per_hour:
        return 0
    return min(per_hour - committed, int(seconds_since_last * per_hour / 3600.0))
