"""Results and dead letters, as consumers read them."""

import hashlib

import msgspec

from penstock.core.chunk import Headers, Manifest
from penstock.core.members import read_members
from penstock.core.redrive import ORIGIN_HEADER
from penstock.core.requeue import ID_START

RESULT_TOPIC_HEADER = "penstock-result-topic"
"""On a request: the result topic that the producer picks, among the configured ones."""
DEADLINE_HEADER = "penstock-deadline-seconds"
"""On a request: seconds from its arrival after which no new attempt starts."""
PRIORITY_HEADER = "penstock-priority"
"""On a request: high, normal or low; what goes first of a lane, and of a model's tokens."""
TENANT_HEADER = "tenant"
"""On a request: whom it is for; the tenants of a lane take turns. Comes back on the result."""
PASSED_HEADERS = frozenset(
    {"traceparent", "tracestate", "baggage", "correlation-id", "content-type", TENANT_HEADER, ORIGIN_HEADER}
)
"""Request headers that come back on the result, beside all that start with `x-`."""
HEADERS_BYTES_MAX = 16 * 1024
"""Names and values of all headers that a message may have."""
KEY_BYTES_MAX = 64 * 1024
"""A message's key."""
DEAD_LETTER_VALUE_BYTES = 64 * 1024
"""What is kept of a value that is too large for the dead-letter topic."""


class OutputLine(msgspec.Struct):
    """A line of the provider's output or error file, its parts kept as they came."""

    id: msgspec.Raw = msgspec.Raw(b"null")
    response: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


OUTPUT_LINE = msgspec.json.Decoder(OutputLine)
ENCODE = msgspec.json.Encoder().encode


def passed(headers: Headers) -> list[tuple[str, bytes | None]]:
    """The request's headers that its result carries."""
    return [(name, value) for name, value in headers if name in PASSED_HEADERS or name.startswith("x-")]


def result_value(line: bytes, custom_id: str) -> bytes:
    """The provider's line with the producer's ``custom_id``; everything else byte for byte."""
    read = output_line(line)
    return b'{"id":%b,"custom_id":%b,"response":%b,"error":%b}' % (
        read.id,
        quoted(custom_id),
        read.response,
        read.error,
    )


def output_line(line: bytes) -> OutputLine:
    """The parts of a line that `penstock.core.decision.read_line` could read."""
    try:
        return OUTPUT_LINE.decode(line)
    except msgspec.MsgspecError:
        text = line.decode()
        _, spans = read_members(text)
        found = {name: text[slice(*spans[name])].encode() for name in OutputLine.__struct_fields__ if name in spans}
        return OutputLine(**{name: msgspec.Raw(raw) for name, raw in found.items()})


def error_value(result_id: str, custom_id: str, code: str, message: str) -> bytes:
    """A result of our own making, in the shape of the Batch API's error line."""
    return b'{"id":%b,"custom_id":%b,"response":null,"error":{"code":%b,"message":%b}}' % (
        ENCODE(result_id),
        quoted(custom_id),
        ENCODE(code),
        ENCODE(message),
    )


def quoted(text: str) -> bytes:
    """A text as JSON."""
    return ENCODE(text)


def result_headers(manifest: Manifest, index: int, batch_headers: Headers) -> list[tuple[str, bytes | None]]:
    """Headers of a result: the request's own that pass, then ours.

    Args:
        manifest: of the request's chunk.
        index: the request's place in it.
        batch_headers: those that every result of the batch shares.
    """
    return [*manifest.headers[index], ("penstock-result-id", manifest.result_id(index).encode()), *batch_headers]


def dead_letter_headers(
    manifest: Manifest, index: int, code: str, reason: str, stage: str
) -> list[tuple[str, bytes | None]]:
    """Headers of a dead letter: the message's own, why it is here, and where it came from, as texts."""
    return [
        *manifest.headers[index],
        ("penstock-result-id", manifest.result_id(index).encode()),
        ("penstock.error.code", code.encode()),
        ("penstock.error.reason", reason.encode()),
        ("penstock.error.stage", stage.encode()),
        ("penstock.origin.topic", manifest.topic.encode()),
        ("penstock.origin.partition", str(manifest.partitions[index]).encode()),
        ("penstock.origin.offset", str(manifest.offsets[index]).encode()),
        ("penstock.origin.timestamp", str(int(manifest.received[index] * 1000)).encode()),
    ]


def truncated(value: bytes, room_bytes: int = DEAD_LETTER_VALUE_BYTES) -> tuple[bytes, list[tuple[str, bytes | None]]]:
    """A value too large for its topic: its first bytes, and headers with its size and SHA-256."""
    return value[: min(room_bytes, DEAD_LETTER_VALUE_BYTES)], [
        ("penstock.truncated.bytes", str(len(value)).encode()),
        ("penstock.truncated.sha256", hashlib.sha256(value).hexdigest().encode()),
    ]


def original_line(line: bytes, custom_id: str) -> bytes:
    """A request's line as its producer could send it again: our wire id replaced by the producer's."""
    end = line.index(b'"', ID_START)
    return b'{"custom_id":%b%b' % (quoted(custom_id), line[end + 1 :].rstrip(b"\n"))
