"""Filling windows: chunks are cut into batches within limits, by priority, and fairly between the shares of tenants.

Pure functions of chunk summaries and limits; what is random is passed in.
"""

import math
import uuid
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

from penstock.core.window import NOTHING, ChunkSummary, Part, Sealed, SealReason, Size, WindowLimits, total

TURNS = 32
"""A share takes a turn of about this part of a window before the next share takes one."""
WINDOWS_PER_SEAL = 16
"""Windows that one transaction seals of a lane at most; the next round goes on."""


class Sizes(list[Size]):
    """The size of each request of a chunk."""

    @cached_property
    def sums(self) -> tuple[tuple[float, ...], ...]:
        """Bytes, tokens and inputs of the first requests, from none to all."""
        return tuple(tuple(accumulate(column, initial=0)) for column in list(zip(*self, strict=True))[1:])

    def between(self, first: int, end: int) -> Size:
        """The size of requests together."""
        size_bytes, tokens, inputs = (int(sums[end] - sums[first]) for sums in self.sums)
        return Size(end - first, size_bytes, tokens, inputs)


SizesOf = Callable[[uuid.UUID], Sizes]
"""The size of each request of a chunk; asked only for a chunk that does not fit whole."""


@dataclass(slots=True)
class Rest:
    """What is left of a chunk while windows are filled."""

    chunk_id: uuid.UUID
    start: int
    first: int
    left: Size


@dataclass(slots=True)
class Filling:
    """A window that is being filled."""

    limits: WindowLimits
    parts: dict[tuple[uuid.UUID, int], Part] = field(default_factory=dict)
    """By chunk and where what was left of it began: the turns that it takes make one part."""
    size: Size = NOTHING

    def take(self, rest: Rest, size: Size) -> None:
        """Put the next requests of a chunk in."""
        begun = self.parts.get((rest.chunk_id, rest.start))
        self.parts[rest.chunk_id, rest.start] = Part(
            rest.chunk_id, begun.first if begun else rest.first, (begun.requests if begun else 0) + size.requests
        )
        self.size = self.size.plus(size)
        rest.first += size.requests
        rest.left = rest.left.minus(size)

    def close(self, reason: SealReason) -> Sealed:
        """The window as it is."""
        return Sealed(tuple(self.parts.values()), self.size, reason)


Shares = dict[int, deque[Rest]]
"""What is left of each share of a priority, in order."""


def fill(
    chunks: Iterable[ChunkSummary],
    limits: WindowLimits,
    sizes_of: SizesOf,
    windows_max: int | None = None,
    toss: Callable[[], float] = float,
) -> list[Sealed]:
    """Cut chunks into full windows; the last one may be partly filled and has reason AGE.

    A window has requests of a lower priority only when it has all that are left of a higher one. Within a priority the
    shares take turns, the one first that has least of the window; within a share the order stays.

    Every window takes at least one request, so that one request over a limit goes alone rather than never (S2).

    Args:
        chunks: of one lane, those of a share oldest first.
        limits: of each window.
        sizes_of: the request sizes of a chunk that must be cut.
        windows_max: stop after so many full windows.
        toss: a random number in [0, 1): which of the shares that have as much goes first. Without it that which has the
            oldest chunk would, always: no other would get anything of windows of one request.
    """
    classes: dict[int, Shares] = {}
    for chunk in chunks:
        shares = classes.setdefault(chunk.turn.priority, {})
        shares.setdefault(chunk.turn.share, deque()).append(Rest(chunk.id, chunk.taken, chunk.taken, chunk.left))
    windows: list[Sealed] = []
    window = Filling(limits)
    for _, shares in sorted(classes.items()):
        while over := deal(window, shares, sizes_of, toss):
            windows.append(window.close(over))
            window = Filling(limits)
            if len(windows) == windows_max:
                return windows
    return [*windows, window.close(SealReason.AGE)] if window.parts else windows


def deal(window: Filling, shares: Shares, sizes_of: SizesOf, toss: Callable[[], float]) -> SealReason | None:
    """Let shares take turns until nothing is left of them; returns the limit that ends it earlier."""
    turn = turn_of(window.limits)
    left = total(rest.left for queue in shares.values() for rest in queue)
    tosses = {share: toss() for share in shares}
    had, served = dict.fromkeys(shares, NOTHING), dict.fromkeys(shares, 0.0)
    while shares:
        alone = len(shares) == 1 or window.limits.broken_by(window.size.plus(left)) is None
        share = min(shares, key=lambda each: (served[each], tosses[each]))
        before = window.size
        over = take_turn(window, shares[share], window.limits if alone else turn, sizes_of)
        taken = window.size.minus(before)
        if not taken.requests:
            return over
        left = left.minus(taken)
        had[share] = had[share].plus(taken)
        served[share] = part_of(had[share], window.limits)
        if not shares[share]:
            del shares[share]
    return None


def take_turn(window: Filling, queue: deque[Rest], turn: WindowLimits, sizes_of: SizesOf) -> SealReason | None:
    """Move requests from a queue into a window, one at least and as many as a turn has.

    Returns:
        The limit that leaves no room for the next one.
    """
    taken = NOTHING
    while queue:
        rest = queue[0]
        over = window.limits.broken_by(window.size.plus(rest.left))
        if over or turn.broken_by(taken.plus(rest.left)):
            sizes = sizes_of(rest.chunk_id)
            requests = longest_prefix(sizes, rest, window.limits.minus(window.size), turn.minus(taken))
            if not requests and taken.requests:
                return None  # the turn is over
            if not requests:
                requests, over = 1, window.limits.broken_by(window.size.plus(sizes[rest.first]))
                if over and window.parts:
                    return over
            size = sizes.between(rest.first, rest.first + requests)
        else:
            size = rest.left
        window.take(rest, size)
        taken = taken.plus(size)
        if not rest.left.requests:
            queue.popleft()
    return None


def longest_prefix(sizes: Sizes, rest: Rest, *rooms: WindowLimits) -> int:
    """How many requests of what is left of a chunk fit into each of these rooms."""
    requests = rest.left.requests
    for room in rooms:
        requests = min(requests, room.requests)
        for sums, most in zip(sizes.sums, (room.bytes, room.tokens, room.inputs), strict=True):
            if most is not None:
                requests = min(requests, bisect_right(sums, sums[rest.first] + most) - 1 - rest.first)
    return max(requests, 0)


def turn_of(limits: WindowLimits) -> WindowLimits:
    """What a share may take in one turn."""
    tokens = None if limits.tokens is None else limits.tokens // TURNS
    return WindowLimits(max(1, limits.requests // TURNS), limits.bytes // TURNS, limits.inputs // TURNS, tokens)


def part_of(size: Size, limits: WindowLimits) -> float:
    """How much of a window a size is, by the limit of which it has most."""
    return max(
        size.requests / limits.requests,
        size.bytes / limits.bytes,
        size.inputs / limits.inputs,
        size.tokens / (limits.tokens or math.inf),
    )


def cut(parts: Sequence[Part], limits: WindowLimits, sizes_of: SizesOf) -> list[Sealed]:
    """Cut what is taken already, or is to be, into batches within limits, in order."""
    summaries = [
        ChunkSummary(
            part.chunk_id, part.first, sizes_of(part.chunk_id).between(part.first, part.first + part.requests), 0
        )
        for part in parts
    ]
    return fill(summaries, limits, sizes_of)


def seal(
    chunks: Sequence[ChunkSummary],
    limits: WindowLimits,
    sizes_of: SizesOf,
    *,
    age_max_seconds: float,
    flush: bool,
    windows_max: int = WINDOWS_PER_SEAL,
    toss: Callable[[], float] = float,
) -> list[Sealed]:
    """The batches to seal now: every full window, and the unfinished one when it is old enough or flushed.

    Args:
        chunks: the lane's unsealed chunks, those of a share oldest first.
        limits: the lane's limits in force.
        sizes_of: the request sizes of a chunk that must be cut.
        age_max_seconds: the age at which an unfinished window is sealed.
        flush: seal the unfinished window whatever its age.
        windows_max: stop after so many full windows: what is not sealed now need not be cut.
        toss: a random number in [0, 1), see `fill`.
    """
    windows = fill(chunks, limits, sizes_of, windows_max, toss)
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
