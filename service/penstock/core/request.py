"""A message's value read as a request, or rejected with a reason.

The fast way reads the envelope without building the body, and then lets jiter, which the provider's SDK brings, judge
every byte: it refuses a key that an object has twice, invalid UTF-8 and what is nested too deep. What either refuses is
read again, slowly, to find the exact reason, or that it is valid after all: JSON allows escapes of lone surrogates and
integers of any length.
"""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from jiter import from_json

from penstock.core.jsonl import one_line
from penstock.core.lane import EMBEDDINGS, ENDPOINTS
from penstock.core.members import Malformed, distinct, read_members
from penstock.core.reasons import rejected

CUSTOM_ID_BYTES_MAX = 512
MODEL_LENGTH_MAX = 512
FRAME_BYTES = 5
"""What a schema registry's serializer puts before a payload: a zero byte, and the schema's id in four bytes."""
DEPTH_MAX = 200
"""Objects and lists around a value, at most; jiter's own limit, so that the fast way knows it for nothing."""
TEXTS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")
EMPTY = re.compile(r"\[\s*\]|\{\s*\}")


class Envelope(msgspec.Struct):
    """A Batch API line as producers send it."""

    custom_id: str
    url: str
    body: msgspec.Raw
    method: str = "POST"


class Request(msgspec.Struct, frozen=True):
    """One validated message."""

    custom_id: str
    url: str
    model: str
    body: bytes
    """The body as one line, otherwise byte for byte what the producer sent."""
    inputs: int
    """Embedding inputs; 1 for every other endpoint."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What a request may be."""

    body_bytes_max: int = 16 * 1024 * 1024
    endpoints: Container[str] = ENDPOINTS


ENVELOPE = msgspec.json.Decoder(Envelope)


def parse_request(value: bytes | None, limits: RequestLimits) -> Request:
    """Read a message's value.

    Raises:
        RejectedMessage: it cannot be a request; the code and reason go into its dead letter.
    """
    if not value:
        raise rejected("empty_value")
    try:
        envelope = ENVELOPE.decode(value)
        members = from_json(value, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        envelope, members = read_slowly(value)
    return checked(envelope, members, limits)


def checked(envelope: Envelope, members: Mapping[str, Any], limits: RequestLimits) -> Request:
    """The request, once its parts are within what a batch takes."""
    if not envelope.custom_id or len(envelope.custom_id.encode()) > CUSTOM_ID_BYTES_MAX:
        raise rejected("invalid_custom_id", limit=CUSTOM_ID_BYTES_MAX)
    if envelope.method != "POST":
        raise rejected("invalid_method")
    if envelope.url not in limits.endpoints:
        raise rejected("invalid_url")
    body = member(members, "body", dict, "missing_body")
    model = body.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= MODEL_LENGTH_MAX or not is_plain(model):
        raise rejected("missing_model", limit=MODEL_LENGTH_MAX)
    if body.get("stream") is not None and body["stream"] is not False:
        raise rejected("streaming_unsupported")
    inputs = inputs_of(body) if envelope.url == EMBEDDINGS else 1
    raw = bytes(envelope.body)
    if len(raw) > limits.body_bytes_max:
        raise rejected("body_too_large", limit=limits.body_bytes_max)
    return Request(envelope.custom_id, envelope.url, model, one_line(raw), inputs)


def is_plain(model: str) -> bool:
    """Whether a model's name can stand in Postgres, which takes neither NUL nor a lone surrogate, and on a line."""
    return model.isprintable() or CONTROL.search(model) is None


def inputs_of(body: Mapping[str, Any]) -> int:
    """Embedding inputs of a body: a text or a list of tokens is one, a list of those is as many.

    Raises:
        RejectedMessage: it has none.
    """
    given = body.get("input")
    if isinstance(given, list):
        tokens = bool(given) and isinstance(given[0], int | float)
        return 1 if tokens or not given else len(given)
    if not isinstance(given, str):
        raise rejected("invalid_input")
    return 1


def read_slowly(value: bytes) -> tuple[Envelope, Mapping[str, Any]]:
    """Read by the standard library what the fast way refused.

    Raises:
        RejectedMessage: with the exact reason.
    """
    if is_framed(value):
        raise rejected("schema_registry_frame")
    try:
        text = value.decode()
        if depth_of(text) > DEPTH_MAX:
            raise rejected("nested_too_deep", limit=DEPTH_MAX)
        members, spans = read_members(text, distinct)
    except UnicodeDecodeError:
        raise rejected("invalid_utf8") from None
    except Malformed as found:
        raise rejected(found.args[0]) from None
    except ValueError:
        raise rejected("invalid_json") from None
    custom_id = member(members, "custom_id", str, "missing_custom_id")
    if any("\ud800" <= character <= "\udfff" for character in custom_id):
        raise rejected("invalid_custom_id", limit=CUSTOM_ID_BYTES_MAX)
    url = member(members, "url", str, "missing_url")
    method = member({"method": "POST", **members}, "method", str, "invalid_method")
    if "body" not in spans:
        raise rejected("missing_body")
    return Envelope(custom_id, url, msgspec.Raw(text[slice(*spans["body"])].encode()), method), members


def is_framed(value: bytes) -> bool:
    """Whether a payload follows a schema registry's frame, whatever it is; no JSON begins with a zero byte."""
    return value[0] == 0 and len(value) > FRAME_BYTES


def depth_of(text: str) -> int:
    """How many objects and lists stand around a value, at most; an empty one is a value. The text may be no JSON."""
    if text.count("[") + text.count("{") <= DEPTH_MAX:
        return 0
    depth = deepest = 0
    for character in EMPTY.sub("", TEXTS.sub("x", text)):
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


T = TypeVar("T")


def member(table: Mapping[str, Any], name: str, kind: type[T], code: str) -> T:
    """A member of a JSON object, of the JSON type that it must have.

    Raises:
        RejectedMessage: it is missing or of another type.
    """
    value = table.get(name)
    if not isinstance(value, kind):
        raise rejected(code)
    return value
