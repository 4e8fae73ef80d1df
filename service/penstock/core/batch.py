"""A batch: its states, what the provider says of it, and what a refusal of it means.

::

    sealed ──► creating ──► submitted ──► ended ──► decided ──► published
      ▲ │          │                        │
      │ └► split   │◄── (refused, absent) ──┤
      └────────────┴────────────────────────┘ again: refused as a whole
                                            └► split
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum, auto

from penstock.core.refusal import ACCOUNT_FAULTS, SHARED_FAULTS, TOKEN_LIMIT, Concern
from penstock.core.window import Part


class BatchState(StrEnum):
    """Where a batch stands with us."""

    SEALED = "sealed"
    """Its parts are fixed; it waits for quota and a submitter."""
    CREATING = "creating"
    """An intent is written; until the answer is stored the create is in doubt."""
    SUBMITTED = "submitted"
    """The provider has it."""
    ENDED = "ended"
    """Nothing more will happen at the provider (or a verdict needs none): ready to be decided."""
    DECIDED = "decided"
    """Every position has its outcome; final results are being published."""
    PUBLISHED = "published"
    """Every final result is in a committed Kafka transaction."""
    SPLIT = "split"
    """Its positions live on in other batches."""


TRANSITIONS: dict[BatchState, frozenset[BatchState]] = {
    BatchState.SEALED: frozenset({BatchState.CREATING, BatchState.ENDED, BatchState.SPLIT}),
    BatchState.CREATING: frozenset({BatchState.SUBMITTED, BatchState.SEALED}),
    BatchState.SUBMITTED: frozenset({BatchState.ENDED}),
    BatchState.ENDED: frozenset({BatchState.DECIDED, BatchState.SEALED, BatchState.SPLIT}),
    BatchState.DECIDED: frozenset({BatchState.PUBLISHED}),
    BatchState.PUBLISHED: frozenset(),
    BatchState.SPLIT: frozenset(),
}
"""Every move there is. The database refuses any other one (trigger `batch_moves`)."""


PROVIDER_RANK = {
    "validating": 0,
    "in_progress": 1,
    "finalizing": 2,
    "cancelling": 3,
    "completed": 4,
    "failed": 4,
    "expired": 4,
    "cancelled": 4,
}
"""The provider's statuses; a status only moves to a higher rank. An unknown one ranks with `in_progress`."""
TERMINAL_RANK = 4


def rank(status: str) -> int:
    """A status' place on the way; unknown statuses are "not terminal yet"."""
    return PROVIDER_RANK.get(status, 1)


def is_terminal(status: str) -> bool:
    """Whether the provider is done with a batch of this status."""
    return rank(status) == TERMINAL_RANK


def moves_forward(known: str, seen: str) -> bool:
    """Whether a status that was seen is recorded over the one that is known.

    A batch can be terminal in the very answer to its create: then the same status is still to be recorded as its end.
    """
    return is_terminal(seen) if seen == known else rank(seen) >= rank(known)


def passed_validation(status: str) -> bool:
    """Whether the provider has taken the batch's file, and so its tokens."""
    return rank(status) > PROVIDER_RANK["validating"] and status not in ("failed", "cancelling", "cancelled")


@dataclass(frozen=True, slots=True)
class BatchError:
    """One entry of a failed batch's ``errors.data``; ``line`` counts from 1."""

    code: str
    message: str
    line: int | None


@dataclass(frozen=True, slots=True)
class ProviderBatch:
    """What the provider says of a batch, mapped once at the boundary; empty texts and unknown times are None."""

    id: str
    status: str
    created_at: datetime | None
    expires_at: datetime | None
    output_file_id: str | None
    error_file_id: str | None
    errors: tuple[BatchError, ...]
    metadata: dict[str, str]
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    input_file_id: str | None = None
    executed: int | None = None
    """Requests that it has executed, failed ones among them; None when it does not say."""


class Remedy(Enum):
    """What to do with a batch that was refused at validation; none of its lines was executed (B5)."""

    AGAIN = auto()
    """Send the same batch once more, later."""
    AGAIN_SMALLER = auto()
    """Enqueued tokens ran out: learn the limit, then again, cut to it."""
    ANSWER_LINE = auto()
    """One line is at fault: its error is the answer, the others go again."""
    ANSWER_ALL = auto()
    """All lines share the fault: it answers all of them."""
    HALVE = auto()
    """Too many lines at fault one after the other, or too large a file: cut the window in two."""
    HALT_ACCOUNT = auto()
    """The account may not call: nothing is answered, and it goes again once the account is taken."""
    HALT_LANE = auto()
    """The fault is in what we wrote: no further batch of this lane until an operator has looked."""


LINES_LOST_MAX = 8
CREATES_MAX = 64
LINE_FAULTS = frozenset({"missing_required_parameter", "invalid_request", "streaming_unsupported", "mismatched_model"})
OUR_FAULTS = frozenset({"duplicate_custom_id", "empty_file", "input_modified"})
READING_FAULT = "invalid_json_line"
"""One line that the provider's parser does not take is its producer's; many are ours."""
KNOWN_CODES = ACCOUNT_FAULTS | SHARED_FAULTS | LINE_FAULTS | OUR_FAULTS | {READING_FAULT, TOKEN_LIMIT}
"""Codes that metrics name; any other is `other`, since the provider can invent them."""


def remedy(error: BatchError, *, requests: int, lines_lost: int, creates: int) -> Remedy:
    """What to do about a refusal.

    Args:
        error: the first error that the provider reported; validation stops at the first bad line.
        requests: requests in the refused batch.
        lines_lost: lines that this window has already lost one at a time.
        creates: creates of the window and all its descendants so far, those refused for tokens left out.
    """
    if error.code in ACCOUNT_FAULTS:
        return Remedy.HALT_ACCOUNT
    unread = error.code == READING_FAULT and (error.line is None or lines_lost >= LINES_LOST_MAX)
    if error.code in OUR_FAULTS or unread:
        return Remedy.HALT_LANE
    if error.code == TOKEN_LIMIT:
        return Remedy.AGAIN_SMALLER  # however often: only the deadline ends it, or a request above the known limit
    if creates >= CREATES_MAX or error.code in SHARED_FAULTS:
        return Remedy.ANSWER_ALL
    if error.line is None or not 1 <= error.line <= requests:
        return Remedy.AGAIN
    if requests == 1:
        return Remedy.ANSWER_ALL
    if lines_lost >= LINES_LOST_MAX:
        return Remedy.HALVE
    return Remedy.ANSWER_LINE


def remedy_of_call(concern: Concern, error: BatchError, *, requests: int, lines_lost: int, creates: int) -> Remedy:
    """What to do about a refusal of the upload or the create itself; the arguments are those of `remedy`."""
    match concern:
        case Concern.QUOTA:
            return Remedy.AGAIN_SMALLER
        case Concern.SIZE:
            return Remedy.HALVE if requests > 1 else Remedy.ANSWER_ALL
        case Concern.FILE:
            return Remedy.AGAIN
        case Concern.LANE:
            return Remedy.ANSWER_ALL
        case Concern.REQUEST if error.line is not None and error.line <= requests:
            return remedy(error, requests=requests, lines_lost=lines_lost, creates=creates)
        case _:
            return Remedy.HALT_LANE


@dataclass(frozen=True, slots=True)
class Hint:
    """What a webhook is taken for: a batch may have ended. Both ids are the provider's."""

    webhook_id: str
    provider_batch_id: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer given to every position of a batch without the provider."""

    code: str
    message: str


CANCELLED = Verdict("batch_cancelled", "An operator cancelled the batch before the request was executed.")


class Cancel(StrEnum):
    """What becomes of the requests without a result when an operator cancels their batch."""

    ANSWER = "answer"
    """They are answered with the error `batch_cancelled`."""
    AGAIN = "again"
    """They are sent again."""


def positions(parts: Sequence[Part], first: int, requests: int) -> tuple[Part, ...]:
    """The parts that cover a number of positions from position ``first``."""
    chosen = []
    start = 0
    for part in parts:
        low, high = max(first - start, 0), min(first + requests - start, part.requests)
        if low < high:
            chosen.append(Part(part.chunk_id, part.first + low, high - low))
        start += part.requests
    return tuple(chosen)


def split_where(
    parts: Sequence[Part], flags_of: Callable[[uuid.UUID], Sequence[bool]], verdict: Verdict
) -> list[tuple[list[Part], Verdict | None]]:
    """Sort positions into those that are flagged, which get a verdict, and the others, keeping their order.

    Args:
        parts: of a batch, or of what is to become one.
        flags_of: a flag for each request of a chunk.
        verdict: on those that are flagged.
    """
    flagged: list[Part] = []
    others: list[Part] = []
    for part in parts:
        flags = flags_of(part.chunk_id)
        for index in range(part.first, part.first + part.requests):
            side = flagged if flags[index] else others
            last = side[-1] if side else None
            if last and last.chunk_id == part.chunk_id and last.first + last.requests == index:
                side[-1] = Part(last.chunk_id, last.first, last.requests + 1)
            else:
                side.append(Part(part.chunk_id, index, 1))
    pieces: list[tuple[list[Part], Verdict | None]] = [(flagged, verdict), (others, None)]
    return [piece for piece in pieces if piece[0]]


def split_by_deadline(
    parts: Sequence[Part], deadlines_of: Callable[[uuid.UUID], Sequence[float]], now: float
) -> list[tuple[list[Part], Verdict | None]]:
    """Sort positions into those whose deadline has passed and the others, keeping their order (W6).

    Args:
        parts: of a batch, or of what is to become one.
        deadlines_of: the deadline of each request of a chunk, in Unix seconds.
        now: the database's clock, in Unix seconds.
    """
    verdict = Verdict("deadline_exceeded", "The request's deadline passed before an attempt could start.")
    return split_where(parts, lambda chunk_id: [each <= now for each in deadlines_of(chunk_id)], verdict)


def locate(parts: Sequence[Part]) -> dict[uuid.UUID, list[tuple[int, int, int]]]:
    """For each chunk, ``(first index, requests, position of the first)``: turns wire ids into positions."""
    places: dict[uuid.UUID, list[tuple[int, int, int]]] = {}
    start = 0
    for part in parts:
        places.setdefault(part.chunk_id, []).append((part.first, part.requests, start))
        start += part.requests
    return places
