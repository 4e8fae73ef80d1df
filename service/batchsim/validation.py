"""What the API checks in an input file before it runs a batch. It stops at the first bad line."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from batchsim.records import Rejection
from batchsim.settings import Limits
from batchsim.shapes import BYTES_PER_TOKEN, embedding_inputs

EMBEDDINGS = "/v1/embeddings"
ENDPOINTS = (
    "/v1/responses",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/completions",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/videos",
)


class Usual(NamedTuple):
    """The param and the message that go with a failure code where a fault rule names the code alone."""

    param: str | None
    message: str


USUAL = {
    "invalid_json_line": Usual(None, "This line is not parseable as valid JSON."),
    "duplicate_custom_id": Usual(
        "custom_id",
        "The custom_id of this request is a duplicate of another request. "
        "The custom_id parameter must be unique for each request in a batch.",
    ),
    "missing_required_parameter": Usual("custom_id", "Missing required parameter: 'custom_id'."),
    "mismatched_model": Usual(
        "body.model", "The model of this request does not match the model of the batch's first request."
    ),
    "model_not_found": Usual("body.model", "The provided model is not supported by the Batch API or does not exist."),
    "invalid_request": Usual("file_id", "Cannot find file."),
    "invalid_url": Usual("url", "The URL provided for this request does not match the batch endpoint."),
    "streaming_unsupported": Usual("body.stream", "Streaming is not supported in the Batch API."),
    "token_limit_exceeded": Usual(None, "Enqueued token limit reached."),
    "empty_file": Usual(None, "The batch input file is empty."),
    "request_limit_exceeded": Usual(None, "The batch input file contains too many requests."),
}


class Line(msgspec.Struct):
    """A line of an input file; `body` stays as its bytes."""

    custom_id: Any = None
    method: Any = None
    url: Any = None
    body: msgspec.Raw = msgspec.Raw(b"null")


decode_line = msgspec.json.Decoder(Line).decode
decode_json = msgspec.json.Decoder().decode


@dataclass(slots=True)
class Accepted:
    """What validation learns about a good file."""

    model: str = ""
    requests: int = 0
    tokens: int = 0
    inputs: int = 0


class Rejected(Exception):
    """The file is refused; carries the batch's one error."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.message)
        self.rejection = rejection


def reject(code: str, param: str | None, message: str, line: int | None) -> Rejected:
    """The exception for one error."""
    return Rejected(Rejection(code, message, param, line))


def validate(lines: Iterable[bytes], endpoint: str, models: frozenset[str], limits: Limits) -> Accepted:
    """Check the lines of an input file against everything but the enqueued tokens.

    Raises:
        Rejected: with the first error.
    """
    accepted = Accepted()
    seen: set[str] = set()
    for number, raw in enumerate(lines, 1):
        line, body = read_line(raw, number)
        check_custom_id(line.custom_id, seen, number)
        check_request(line, endpoint, number)
        check_body(body, accepted, models, number)
        accepted.requests += 1
        accepted.tokens += -(-len(line.body) // BYTES_PER_TOKEN)
        if accepted.requests > limits.batch_requests:
            message = f"The batch input file contains more than {limits.batch_requests:,} requests."
            raise reject("request_limit_exceeded", None, message, None)
        if endpoint == EMBEDDINGS:
            accepted.inputs += embedding_inputs(body.get("input"))
            if accepted.inputs > limits.embedding_inputs:
                message = f"The batch contains more than {limits.embedding_inputs:,} embedding inputs."
                raise reject("request_limit_exceeded", None, message, None)
    if accepted.requests == 0:
        raise reject("empty_file", *USUAL["empty_file"], None)
    return accepted


def read_line(raw: bytes, number: int) -> tuple[Line, dict[str, Any]]:
    """Decode a line and, wholly, its body."""
    try:
        line = decode_line(raw)
        body = decode_json(line.body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise reject("invalid_json_line", *USUAL["invalid_json_line"], number) from None
    if not isinstance(body, dict):
        if body is None:
            raise reject("missing_required_parameter", "body", "Missing required parameter: 'body'.", number)
        raise reject("invalid_request", "body", "The body of a request must be an object.", number)
    return line, body


def check_custom_id(custom_id: object, seen: set[str], number: int) -> None:
    """A custom_id is there, a string, and new."""
    if custom_id is None or custom_id == "":
        raise reject("missing_required_parameter", *USUAL["missing_required_parameter"], number)
    if not isinstance(custom_id, str):
        raise reject("invalid_request", "custom_id", "The custom_id of a request must be a string.", number)
    if custom_id in seen:
        message = (
            f"The custom_id '{custom_id}' of this request is a duplicate of another request. "
            "The custom_id parameter must be unique for each request in a batch."
        )
        raise reject("duplicate_custom_id", "custom_id", message, number)
    seen.add(custom_id)


def check_request(line: Line, endpoint: str, number: int) -> None:
    """Method and url are the batch's."""
    if line.method != "POST":
        raise reject("invalid_request", "method", "The method of a request must be POST.", number)
    if line.url != endpoint:
        message = f"The URL provided for this request ({line.url}) does not match the batch endpoint ({endpoint})."
        raise reject("invalid_url", "url", message, number)


def check_body(body: dict[str, Any], accepted: Accepted, models: frozenset[str], number: int) -> None:
    """The model exists and is the batch's; nothing streams."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise reject("invalid_request", "body.model", "The body of this request has no model.", number)
    if models and model not in models:
        message = f"The provided model '{model}' is not supported by the Batch API or does not exist."
        raise reject("model_not_found", "body.model", message, number)
    if accepted.model and model != accepted.model:
        message = (
            f"The model '{model}' of this request does not match '{accepted.model}'. "
            "All requests in a batch must use the same model."
        )
        raise reject("mismatched_model", "body.model", message, number)
    accepted.model = model
    if body.get("stream"):
        raise reject("streaming_unsupported", *USUAL["streaming_unsupported"], number)


def token_limit_rejection(model: str, organization: str, limit: int) -> Rejection:
    """The error of a batch that does not fit under its model's enqueued tokens."""
    message = (
        f"Enqueued token limit reached for {model} in organization {organization}. Limit: {limit:,} enqueued tokens. "
        "Please try again once some in_progress batches have been completed."
    )
    return Rejection("token_limit_exceeded", message)


def input_limit_rejection(limit: int) -> Rejection:
    """The error of a batch of embeddings that does not fit beside those that are enqueued."""
    return Rejection("request_limit_exceeded", f"Enqueued embedding inputs are limited to {limit:,}.")
