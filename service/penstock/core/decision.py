"""Decisions: the outcome of each position of a finished batch.

`Reconciliation` reads the provider's output and error lines against the batch's positions and remembers where each
line lies; `decide` then gives every position its outcome: output, error and missing lines are
disjoint and together the batch.
"""

import uuid
from array import array
from collections.abc import Container, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

import msgspec
import zstandard

from penstock.core.batch import Verdict
from penstock.core.errors import UnknownFormat
from penstock.core.identity import parse_wire_id
from penstock.core.members import read_members

FORMAT = 1
RETRYABLE_FLOOR = 500
UNEXECUTED_CODES = frozenset({"batch_expired", "batch_cancelled", "request_timeout"})


class Outcome(IntEnum):
    """What becomes of a position."""

    OUTPUT = 0
    """Final: its line in the output file."""
    ERROR = 1
    """Final: its line in the error file."""
    VERDICT = 2
    """Final: an error of ours, the decision's verdict."""
    RETRY = 3
    """Another try: it failed by itself (429, 5xx), its attempt rises."""
    RESEND = 4
    """Another try: it was never executed (expired, missing), its attempt stays."""
    EXHAUSTED = 5
    """Final: failed by itself once too often; its last error's line."""
    DEAD_LETTER = 6
    """Final: a rejected message, for the dead-letter topic."""
    DEADLINE = 7
    """Final: no time is left for another try."""
    ANSWERED = 8
    """Final, and nothing to publish: its result is in its topic already, since Postgres was restored."""


FINAL = frozenset(
    {
        Outcome.OUTPUT,
        Outcome.ERROR,
        Outcome.VERDICT,
        Outcome.EXHAUSTED,
        Outcome.DEAD_LETTER,
        Outcome.DEADLINE,
    }
)
FROM_FILE = frozenset({Outcome.OUTPUT, Outcome.ERROR, Outcome.EXHAUSTED})


class Decision(msgspec.Struct, array_like=True):
    """The outcomes of a batch, one byte per position, and the verdict for those that have one."""

    format: int
    outcomes: bytes
    verdict_code: str = ""
    verdict_message: str = ""

    @property
    def finals(self) -> int:
        """How many results are to be published."""
        return sum(self.outcomes.count(outcome) for outcome in FINAL)


def encode_decision(decision: Decision) -> bytes:
    """A decision as stored."""
    return zstandard.ZstdCompressor(level=1).compress(msgspec.msgpack.encode(decision))


def decode_decision(stored: bytes) -> Decision:
    """Read a decision back.

    Raises:
        UnknownFormat: written by a version with another format.
    """
    try:
        decision = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(stored), type=Decision)
    except msgspec.ValidationError as error:
        raise UnknownFormat("decision", error) from error
    if decision.format != FORMAT:
        raise UnknownFormat("decision", f"format {decision.format}; this version knows {FORMAT}")
    return decision


class LineError(msgspec.Struct):
    """Top-level ``error`` of an output line."""

    code: str | int | None = None


class LineResponse(msgspec.Struct):
    """What is read of an output line's ``response``."""

    status_code: int | None = None


class ProviderLine(msgspec.Struct):
    """What is read of a line of an output or error file; the rest of it is never built."""

    custom_id: str
    response: LineResponse | None = None
    error: LineError | None = None


LINE = msgspec.json.Decoder(ProviderLine)


def read_line(line: bytes) -> ProviderLine | None:
    """Read one line; None for what is no line of a batch."""
    try:
        text = line.decode()  # msgspec does not look into what it skips: the answer itself
    except UnicodeDecodeError:
        return None
    try:
        return LINE.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        pass
    try:
        members, _ = read_members(text)  # an answer cut inside an emoji ends in half a surrogate pair
        return msgspec.convert(members, ProviderLine)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


class Kind(IntEnum):
    """What a provider's line says of its request."""

    MISSING = 0
    SUCCESS = 1
    FINAL_ERROR = 2
    OWN_FAILURE = 3
    UNEXECUTED = 4


def kind_of(line: ProviderLine) -> Kind:
    """Read one line: 2xx is success, 429 and 5xx are worth another try, other statuses are the producer's to mend."""
    if line.response is None:
        code = line.error.code if line.error else None
        return Kind.UNEXECUTED if code in UNEXECUTED_CODES else Kind.OWN_FAILURE
    status = line.response.status_code or 0
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's own classes
        return Kind.SUCCESS
    if status in (0, 408, 409, 429) or status >= RETRYABLE_FLOOR:
        return Kind.OWN_FAILURE
    return Kind.FINAL_ERROR


class Found(NamedTuple):
    """Where a position's line lies: in which file, from which byte, how many bytes."""

    file: int
    start: int
    length: int


class Reconciliation:
    """The provider's lines, set against the positions of the batch.

    Memory: 25 bytes per position. The lines themselves stay on disk.

    Args:
        places: `penstock.core.batch.locate` of the batch's parts.
        requests: positions in the batch.
    """

    def __init__(self, places: Mapping[uuid.UUID, Sequence[tuple[int, int, int]]], requests: int) -> None:
        self.places = places
        self.requests = requests
        self.kinds = bytearray(requests)
        self.files = array("b", bytes(requests))
        self.starts = array("q", bytes(8 * requests))
        self.lengths = array("q", bytes(8 * requests))
        self.unknown = 0
        self.repeated = 0
        self.unreadable = 0

    def position(self, custom_id: str) -> int | None:
        """The position of a wire id; None when it is not of this batch."""
        wire = parse_wire_id(custom_id)
        if wire is not None:
            for first, count, start in self.places.get(wire.chunk_id, ()):
                if first <= wire.index < first + count:
                    return start + wire.index - first
        return None

    def read(self, file: int, start: int, lines: Sequence[bytes]) -> int:
        """Take lines in, which follow each other in a file from byte ``start``; returns the byte after the last.

        A success wins over any error for the same position, and the first line of a kind wins over later ones:
        what was paid for is kept. CPU work (about 2 µs a line): call it off the loop.
        """
        for line in lines:
            length = len(line)
            if length:
                self.take(file, start, line)
            start += length + 1
        return start

    def take(self, file: int, start: int, line: bytes) -> None:
        """Take one line in."""
        read = read_line(line)
        if read is None:
            self.unreadable += 1
            return
        position = self.position(read.custom_id)
        if position is None:
            self.unknown += 1
            return
        kind = kind_of(read)
        known = self.kinds[position]
        if known:
            self.repeated += 1
            if not (kind is Kind.SUCCESS and known != Kind.SUCCESS):
                return
        self.kinds[position] = kind
        self.files[position] = file
        self.starts[position] = start
        self.lengths[position] = len(line)

    @property
    def missing(self) -> int:
        """Positions that no line speaks of."""
        return self.kinds.count(Kind.MISSING)

    def found(self, position: int) -> Found | None:
        """Where the line of a position lies; None when there is none."""
        if not self.kinds[position]:
            return None
        return Found(self.files[position], self.starts[position], self.lengths[position])


def decide(
    kinds: bytes | bytearray,
    attempts: Sequence[int],
    attempts_max: int,
    expired: Sequence[bool],
    cancelled: Verdict | None = None,
    answered: Container[int] = (),
) -> Decision:
    """Give every position its outcome.

    Args:
        kinds: a `Kind` per position.
        attempts: failures by its own fault so far, per position.
        attempts_max: the lane's limit.
        expired: whether the position's deadline has passed, so that no further try may start (W6).
        cancelled: the answer instead of another try, when an operator wants none.
        answered: positions that have their answer: none of them is tried again.
    """
    outcomes = bytearray(len(kinds))
    for position, kind in enumerate(kinds):
        if kind == Kind.SUCCESS:
            outcomes[position] = Outcome.OUTPUT
        elif kind == Kind.FINAL_ERROR:
            outcomes[position] = Outcome.ERROR
        elif position in answered:
            outcomes[position] = Outcome.ANSWERED
        elif kind == Kind.OWN_FAILURE and (cancelled or attempts[position] + 1 >= attempts_max):
            outcomes[position] = Outcome.EXHAUSTED
        elif cancelled:
            outcomes[position] = Outcome.VERDICT
        elif expired[position]:
            outcomes[position] = Outcome.DEADLINE
        else:
            outcomes[position] = Outcome.RETRY if kind == Kind.OWN_FAILURE else Outcome.RESEND
    return Decision(FORMAT, bytes(outcomes), *((cancelled.code, cancelled.message) if cancelled else ()))


def unsupported(outcomes: bytes, kinds: bytes | bytearray, first: int) -> list[int]:
    """The positions from ``first`` whose decided line is gone in a second download (W4)."""
    wanted = {Outcome.OUTPUT: Kind.SUCCESS, Outcome.ERROR: Kind.FINAL_ERROR, Outcome.EXHAUSTED: Kind.OWN_FAILURE}
    return [
        position
        for position in range(first, len(outcomes))
        if (kind := wanted.get(Outcome(outcomes[position]))) is not None and kinds[position] != kind
    ]
