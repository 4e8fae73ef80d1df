"""A message's value read as a request, or rejected with a reason.

The fast way is one pass by msgspec that never builds the body; only what it refuses is read again, slowly, to find the
exact reason (or that the text is valid after all: msgspec refuses escapes of lone surrogates, which JSON allows).
"""

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from penstock.core.errors import RejectedMessage
from penstock.core.jsonl import one_line
from penstock.core.lane import EMBEDDINGS, ENDPOINTS
from penstock.core.members import read_members

CUSTOM_ID_BYTES_MAX = 512


class Envelope(msgspec.Struct):
    """A Batch API line as producers send it."""

    custom_id: str
    url: str
    body: msgspec.Raw
    method: str = "POST"


class Body(msgspec.Struct):
    """What is read of a body."""

    model: str
    stream: bool | None = None


class EmbeddingBody(Body, kw_only=True):
    """What is read of an embeddings body."""

    input: list[msgspec.Raw] | str


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
    inputs_max: int = 50_000
    endpoints: Container[str] = ENDPOINTS


ENVELOPE = msgspec.json.Decoder(Envelope)
BODY = msgspec.json.Decoder(Body)
EMBEDDING_BODY = msgspec.json.Decoder(EmbeddingBody)


def parse_request(value: bytes | None, limits: RequestLimits) -> Request:
    """Read a message's value.

    Raises:
        RejectedMessage: it cannot be a request; the code and reason go into its dead letter.
    """
    if not value:
        raise RejectedMessage("empty_value", "The message has no value; send a Batch API line as JSON.")
    try:
        if not value.isascii():
            value.decode()
        envelope = ENVELOPE.decode(value)
        raw = bytes(envelope.body)
        body = (EMBEDDING_BODY if envelope.url == EMBEDDINGS else BODY).decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        envelope, raw, body = read_slowly(value)
    return checked(envelope, raw, body, limits)


def checked(envelope: Envelope, raw: bytes, body: Body, limits: RequestLimits) -> Request:
    """The request, once its parts are within what a batch takes."""
    if not envelope.custom_id or len(envelope.custom_id.encode()) > CUSTOM_ID_BYTES_MAX:
        raise RejectedMessage("invalid_custom_id", f"custom_id must have 1 to {CUSTOM_ID_BYTES_MAX} bytes.")
    if envelope.method != "POST":
        raise RejectedMessage("invalid_method", "method must be POST or left out.")
    if envelope.url not in limits.endpoints:
        raise RejectedMessage("invalid_url", "url must be one of the Batch API's endpoints, such as /v1/responses.")
    if not body.model or len(body.model) > CUSTOM_ID_BYTES_MAX:
        raise RejectedMessage("missing_model", "body.model must name a model.")
    if not body.model.isprintable():  # Postgres takes neither NUL nor a lone surrogate
        raise RejectedMessage("missing_model", "body.model must name a model in printable text.")
    if body.stream:
        raise RejectedMessage("streaming_unsupported", "body.stream must be false or left out: a batch cannot stream.")
    if len(raw) > limits.body_bytes_max:
        raise RejectedMessage("body_too_large", f"body has more than {limits.body_bytes_max} bytes.")
    inputs = inputs_of(body)
    if inputs > limits.inputs_max:
        raise RejectedMessage("too_many_inputs", f"body.input has more than {limits.inputs_max} inputs.")
    return Request(envelope.custom_id, envelope.url, body.model, one_line(raw), inputs)


def inputs_of(body: Body) -> int:
    """Embedding inputs of a body: a text or a list of tokens is one, a list of those is as many."""
    if not isinstance(body, EmbeddingBody) or isinstance(body.input, str) or not body.input:
        return 1
    tokens = bytes(body.input[0])[:1].isdigit()
    return 1 if tokens else len(body.input)


def read_slowly(value: bytes) -> tuple[Envelope, bytes, Body]:
    """Read by the standard library what the fast way refused.

    Raises:
        RejectedMessage: with the exact reason.
    """
    try:
        text = value.decode()
        members, spans = read_members(text)
    except UnicodeDecodeError:
        raise RejectedMessage("invalid_utf8", "The value is not valid UTF-8.") from None
    except RecursionError:
        raise RejectedMessage("nested_too_deep", "The value is nested too deep.") from None
    except ValueError:
        raise RejectedMessage("invalid_json", "The value is not one JSON object.") from None
    custom_id = member(members, "custom_id", str, "missing_custom_id", "custom_id must be given, as a text.")
    if any("\ud800" <= character <= "\udfff" for character in custom_id):
        raise RejectedMessage("invalid_custom_id", "custom_id must be valid Unicode.")
    url = member(members, "url", str, "missing_url", "url must be given, as a text.")
    method = member({"method": "POST", **members}, "method", str, "invalid_method", "method must be POST or left out.")
    body = member(members, "body", dict, "missing_body", "body must be given, as an object.")
    model = member(body, "model", str, "missing_model", "body.model must name a model.")
    stream = body.get("stream")
    if not isinstance(stream, bool | None):
        raise RejectedMessage("streaming_unsupported", "body.stream must be false or left out: a batch cannot stream.")
    envelope = Envelope(custom_id, url, msgspec.Raw(), method)
    raw = text[slice(*spans["body"])].encode()
    if url != EMBEDDINGS:
        return envelope, raw, Body(model, stream)
    given = body.get("input")
    if not isinstance(given, str | list):
        raise RejectedMessage("invalid_input", "body.input must be a text or a list.")
    items = given if isinstance(given, str) else [msgspec.Raw(json.dumps(item).encode()) for item in given]
    return envelope, raw, EmbeddingBody(model, stream, input=items)


T = TypeVar("T")


def member(table: Mapping[str, Any], name: str, kind: type[T], code: str, reason: str) -> T:
    """A member of a JSON object, of the JSON type that it must have.

    Raises:
        RejectedMessage: it is missing or of another type.
    """
    value = table.get(name)
    if not isinstance(value, kind):
        raise RejectedMessage(code, reason)
    return value
