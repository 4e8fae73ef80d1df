"""Decisions: the outcome of each position of a finished batch.

`Reconciliation` reads the provider's output and error lines against the batch's positions and remembers where each
line lies; `decide` then gives every position its outcome: output, error and missing lines are
disjoint and together the batch.
"""

import re
import uuid
from array import array
from collections.abc import Container, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import msgspec
import zstandard

from penstock.core.batch import Verdict
from penstock.core.errors import UnknownFormat
from penstock.core.identity import parse_wire_id
from penstock.core.members import read_members

FORMAT = 1
FORMAT_UNREADABLE = 2
"""With an outcome that versions before it do not know: they leave such a decision alone."""
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
    UNREADABLE = 9
    """Final: it was executed and paid for too often, and each time its line could not be read."""


FINAL = frozenset(
    {
        Outcome.OUTPUT,
        Outcome.ERROR,
        Outcome.VERDICT,
        Outcome.EXHAUSTED,
        Outcome.DEAD_LETTER,
        Outcome.DEADLINE,
        Outcome.UNREADABLE,
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
    if decision.format not in (FORMAT, FORMAT_UNREADABLE):
        raise UnknownFormat("decision", f"format {decision.format}; this version knows up to {FORMAT_UNREADABLE}")
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
NAME = re.compile(rb'"custom_id"\s*:\s*"([0-9a-f]{32}-[0-9]{1,10})"')
"""A wire id in a line that cannot be read. Inside a text its quotes would be escaped, so that no answer can fake it."""
STATUS_DIGITS = 9
BOM = b"\xef\xbb\xbf"
"""A byte order mark, which some servers begin a file with."""
SUCCESS_STATUS = 200


def read_line(line: bytes) -> ProviderLine | None:
    """Read one line; None for what is no line of a batch.

    Servers differ in the types of what they write, and each line is paid for: only what is needed has to make sense.
    """
    try:
        text = line.decode()  # msgspec does not look into what it skips: the answer itself
    except UnicodeDecodeError:
        return None
    try:
        read = LINE.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        read = None
    if read is not None and (read.response is None or read.response.status_code is not None):
        return read
    try:
        members, _ = read_members(text)  # an answer cut inside an emoji ends in half a surrogate pair
    except (ValueError, RecursionError):
        return None
    return tolerant_line(members)


def tolerant_line(members: dict[str, Any]) -> ProviderLine | None:
    """A line whose members have unexpected types; None when they do not say for whom it is or what it says."""
    custom_id, response, error = (members.get(name) for name in ("custom_id", "response", "error"))
    if not isinstance(custom_id, str) or not (isinstance(response, dict) or response in (None, "")):
        return None
    read = LineResponse(told_status(response, error)) if isinstance(response, dict) else None
    if isinstance(error, dict):
        code = error.get("code")
        return ProviderLine(custom_id, read, LineError(code if isinstance(code, str | int) else None))
    if isinstance(error, str) and error:
        return ProviderLine(custom_id, read, LineError(error))
    return ProviderLine(custom_id, read, LineError() if error else None)


def told_status(response: dict[str, Any], error: object) -> int | None:
    """The status of a response, which some servers leave out: an answer that tells no error is a success."""
    told, body = response.get("status_code"), response.get("body")
    if told is None and not error and isinstance(body, dict) and body and not body.get("error"):
        return SUCCESS_STATUS
    return status_of(told)


def status_of(value: object) -> int | None:
    """An HTTP status as a number, whether it came as one, as a text or as a fraction of zero; None when it is none."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) <= STATUS_DIGITS:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def name_in(line: bytes) -> str | None:
    """The wire id that a line names which cannot be read; None when it names none."""
    found = NAME.search(line)
    return found[1].decode() if found else None


class Kind(IntEnum):
    """What a provider's line says of its request."""

    MISSING = 0
    SUCCESS = 1
    FINAL_ERROR = 2
    OWN_FAILURE = 3
    UNEXECUTED = 4
    UNREADABLE = 5
    """It was executed, and nobody can read what came of it."""


def kind_of(line: ProviderLine) -> Kind:
    """Read one line: 2xx is success, 429 and 5xx are worth another try, other statuses are the producer's to mend."""
    status = line.response.status_code or 0 if line.response else 0
    if not status and line.error and line.error.code in UNEXECUTED_CODES:
        return Kind.UNEXECUTED
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
        self.nameless = 0
        self.nameless_at: Found | None = None
        """Where the first line lies that names no request."""

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
            if not start and line.startswith(BOM):
                self.take(file, len(BOM), line[len(BOM) :])
            elif length:
                self.take(file, start, line)
            start += length + 1
        return start

    def take(self, file: int, start: int, line: bytes) -> None:
        """Take one line in."""
        read = read_line(line)
        if read is None:
            self.unreadable += 1
        custom_id = name_in(line) if read is None else read.custom_id
        position = self.position(custom_id) if custom_id is not None else None
        if position is None:
            self.unknown += read is not None
            if custom_id is None or parse_wire_id(custom_id) is None:
                self.nameless += 1
                self.nameless_at = self.nameless_at or Found(file, start, len(line))
            return
        kind = Kind.UNREADABLE if read is None else kind_of(read)
        known = self.kinds[position]
        if known:
            self.repeated += 1
            better = (kind is Kind.SUCCESS and known != Kind.SUCCESS) or known == Kind.UNREADABLE
            if kind is Kind.UNREADABLE or not better:
                return
        self.kinds[position] = kind
        self.files[position] = file
        self.starts[position] = start
        self.lengths[position] = len(line)

    @property
    def missing(self) -> int:
        """Positions that no line speaks of."""
        return self.kinds.count(Kind.MISSING)

    def judged(self) -> bytes:
        """The kinds, once the files are known to be whole (W2).

        What is missing was executed as far as is known when at least as many lines name nobody: it is unreadable.
        """
        missing = self.missing
        if not missing or self.nameless < missing:
            return bytes(self.kinds)
        return bytes(self.kinds).replace(bytes([Kind.MISSING]), bytes([Kind.UNREADABLE]))

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
    given_up: Container[int] = (),
) -> Decision:
    """Give every position its outcome.

    Args:
        kinds: a `Kind` per position.
        attempts: failures by its own fault so far, per position.
        attempts_max: the lane's limit.
        expired: whether the position's deadline has passed, so that no further try may start (W6).
        cancelled: the answer instead of another try, when an operator wants none.
        answered: positions that have their answer: none of them is tried again.
        given_up: positions that are tried no more when their line is unreadable, since it was too often.
    """
    outcomes = bytearray(len(kinds))
    for position, kind in enumerate(kinds):
        if kind == Kind.SUCCESS:
            outcomes[position] = Outcome.OUTPUT
        elif kind == Kind.FINAL_ERROR:
            outcomes[position] = Outcome.ERROR
        elif position in answered:
            outcomes[position] = Outcome.ANSWERED
        elif kind == Kind.UNREADABLE and (cancelled or position in given_up):
            outcomes[position] = Outcome.UNREADABLE
        elif kind == Kind.OWN_FAILURE and (cancelled or attempts[position] + 1 >= attempts_max):
            outcomes[position] = Outcome.EXHAUSTED
        elif cancelled:
            outcomes[position] = Outcome.VERDICT
        elif expired[position]:
            outcomes[position] = Outcome.DEADLINE
        else:
            outcomes[position] = Outcome.RETRY if kind == Kind.OWN_FAILURE else Outcome.RESEND
    used = FORMAT_UNREADABLE if Outcome.UNREADABLE in outcomes else FORMAT
    return Decision(used, bytes(outcomes), *((cancelled.code, cancelled.message) if cancelled else ()))


def unsupported(outcomes: bytes, kinds: bytes | bytearray, first: int) -> list[int]:
    """The positions from ``first`` whose decided line is gone in a second download (W4)."""
    wanted = {Outcome.OUTPUT: Kind.SUCCESS, Outcome.ERROR: Kind.FINAL_ERROR, Outcome.EXHAUSTED: Kind.OWN_FAILURE}
    return [
        position
        for position in range(first, len(outcomes))
        if (kind := wanted.get(Outcome(outcomes[position]))) is not None and kinds[position] != kind
    ]
