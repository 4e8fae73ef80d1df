"""What must come of a message, boiled down to fingerprints, so that a million of them fit in memory."""

import json
from collections.abc import Iterable, Sequence
from hashlib import blake2b, sha256
from typing import Any, NamedTuple

import msgspec

from batchsim.answer import EMBEDDING_DIMENSIONS, answer, request_digest, request_id

RESULT_ID = "penstock-result-id"
CODE = "penstock.error.code"
TRUNCATED_SHA256 = "penstock.truncated.sha256"
REWRITTEN = "result_too_large"
"""The code of dead letters that carry the request, not its bytes: it was sent to the provider."""
ORIGIN = ("penstock.origin.partition", "penstock.origin.offset")
NONE = 0

decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder(order="sorted").encode


class Message(NamedTuple):
    """A committed record of a request topic. `source` is `{cluster id}/{topic id in hexadecimal}`."""

    source: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class Output(NamedTuple):
    """A record of a result topic, or with `dead` of a dead-letter topic."""

    dead: bool
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    def header(self, name: str) -> str | None:
        """The last header of this name, as a text."""
        found = [value for each, value in self.headers if each == name]
        return (found[-1] or b"").decode(errors="replace") if found else None


class Expected(NamedTuple):
    """Fingerprints of what belongs to a message; NONE where there is nothing to tell."""

    custom_id: int
    key: int
    value: int
    request: int
    answer: int
    execution: int
    request_id: int


class Line(msgspec.Struct):
    """A message's value as the contract has it."""

    custom_id: str
    url: str
    body: msgspec.Raw


class Response(msgspec.Struct):
    """The `response` of a result."""

    status_code: int
    request_id: str
    body: msgspec.Raw


class ResultLine(msgspec.Struct):
    """A result's value."""

    custom_id: str
    response: Response | None
    error: Any = None


LINE = msgspec.json.Decoder(Line)
RESULT_LINE = msgspec.json.Decoder(ResultLine, strict=False)  # some servers write a status as a text


def fingerprint(data: bytes | str | None) -> int:
    """64 bits that tell texts apart, never NONE unless there is no text."""
    if data is None:
        return NONE
    digest = blake2b(data.encode() if isinstance(data, str) else data, digest_size=8).digest()
    return int.from_bytes(digest) or 1


def canonical(raw: bytes) -> bytes:
    """The same bytes for the same JSON value; one that stands as a text inside JSON counts as what the text says."""
    value = decode(raw)
    return encode(decode(value) if isinstance(value, str) and value.startswith("{") else value)


def answer_fingerprint(status_code: int, body: bytes) -> int:
    """Of a provider's answer."""
    return fingerprint(b"%d\n%b" % (status_code, body))


def execution_fingerprint(url: str, body_sha256: str) -> int:
    """Of an execution, as the simulator's journal tells it."""
    return fingerprint(f"{url}\n{body_sha256}")


def value_fingerprint(value: bytes | None) -> int:
    """Of a whole value; a record without one is another than a record with an empty one."""
    return fingerprint("" if value is None else sha256(value).hexdigest())


def one_line(body: bytes) -> bytes:
    """A body as it stands in the provider's input file: line breaks between tokens become blanks."""
    return bytes(body).translate(bytes.maketrans(b"\r\n", b"  "))


def expect(message: Message, embedding_dimensions: int = EMBEDDING_DIMENSIONS) -> Expected:
    """What must come of a message."""
    key, value = fingerprint(message.key), value_fingerprint(message.value)
    try:
        line = LINE.decode(message.value or b"")
        request = canonical(line.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Expected(fingerprint(read_custom_id(message.value)), key, value, NONE, NONE, NONE, NONE)
    body = one_line(line.body)
    status_code, answered = answer(line.url, body, embedding_dimensions=embedding_dimensions)
    return Expected(
        fingerprint(line.custom_id),
        key,
        value,
        fingerprint(request),
        answer_fingerprint(status_code, encode(answered)),
        execution_fingerprint(line.url, sha256(body).hexdigest()),
        fingerprint(request_id(request_digest(line.url, body))),
    )


def read_custom_id(value: bytes | None) -> str | None:
    """The custom_id of a value that the fast way cannot read, where the slow way can."""
    try:
        custom_id = json.loads(value or b"")["custom_id"]
        return custom_id if isinstance(custom_id, str) and custom_id.isprintable() else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def holds_one_of(texts: Iterable[bytes], headers: Iterable[tuple[str, bytes | None]]) -> bool:
    """Whether one of the texts stands in a header."""
    joined = b"\n".join(name.encode() + b"\n" + (value or b"") for name, value in headers)
    return any(text in joined for text in texts)
