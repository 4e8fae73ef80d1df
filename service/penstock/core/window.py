"""Windows: the unsealed chunks of a lane, the limits of a batch, and how many windows an account's creates allow.

Windows are cluster-wide: whoever holds the sealer's lease sees every replica's chunks.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from penstock.core.lane import EMBEDDINGS, LanePolicy
from penstock.core.token import HEADROOM
from penstock.core.turn import USUAL, Turn


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

    def minus(self, other: "Size") -> "Size":
        """What is left without the other."""
        return Size(*(a - b for a, b in zip(self, other, strict=True)))


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

    def minus(self, size: Size) -> "WindowLimits":
        """What room is left beside a size; below 0 where there is none."""
        tokens = None if self.tokens is None else self.tokens - size.tokens
        return WindowLimits(self.requests - size.requests, self.bytes - size.bytes, self.inputs - size.inputs, tokens)

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
    turn: Turn = USUAL


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


PROBE_REQUESTS = 100
"""The window of a lane whose last batch mostly failed by the provider's fault (W5)."""
PROBE_SAMPLE = 20
"""A batch has to have so many first attempts before it says that the provider is ill."""
PROBE_SECONDS_MAX = 3600.0
"""A probe that takes longer holds nothing else up: the next one goes."""


def probe_next(first: int, first_failed: int, requests: int, failed: int) -> bool | None:
    """Whether a lane sends small probes from now on; None when its last batch does not say.

    Args:
        first: requests of the batch at their first attempt.
        first_failed: of those, how many failed by the provider's fault.
        requests: all requests of the batch.
        failed: of those, how many failed by the provider's fault.
    """
    if failed * 2 <= requests:
        return False
    if first < PROBE_SAMPLE:
        return None
    return first_failed * 2 > first


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
