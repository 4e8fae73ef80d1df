r"""The answer to a request: a function of its url and of the bytes of its body, and of nothing else.

Whoever holds the request can compute the answer and compare, so an answer given to another request is always found out:

    digest       = sha256(url + "\n" + body bytes), in hexadecimal
    request id   = "req_" + digest[:32]            (`response.request_id` of the line)
    body         = the endpoint's usual shape, filled from the digest (see `batchsim.shapes`)

`body bytes` are the bytes of the `body` value exactly as they stand in the line of the input file. A body that lacks
what its endpoint requires gets the 400 the API would give. Answers hold no clock: their times come from the digest too.
"""

from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from batchsim.errors import error_body
from batchsim.shapes import SHAPES, InvalidInput, Question

EMBEDDING_DIMENSIONS = 8

decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class Answer(NamedTuple):
    """An HTTP status and the JSON body that goes with it."""

    status_code: int
    body: dict[str, Any]


def request_digest(url: str, body: bytes) -> str:
    """The digest that every answer carries, 64 hexadecimal digits."""
    return sha256(url.encode() + b"\n" + body).hexdigest()


def request_id(digest: str) -> str:
    """The id of the request in the line's `response`."""
    return "req_" + digest[:32]


def answer(url: str, body: bytes, *, embedding_dimensions: int = EMBEDDING_DIMENSIONS) -> Answer:
    """The answer to one request.

    `embedding_dimensions` is the length of a vector where the body asks for none; give the simulator's own setting.
    """
    return answer_digested(url, body, request_digest(url, body), embedding_dimensions)


def answer_digested(url: str, body: bytes, digest: str, embedding_dimensions: int) -> Answer:
    """The answer to a request whose digest is known already."""
    shape = SHAPES.get(url)
    if shape is None:
        return refusal(404, f"Invalid URL (POST {url})", None, None, digest)
    try:
        decoded = decode_object(body)
    except (msgspec.DecodeError, RecursionError):
        return refusal(400, "The body is not a JSON object.", None, "invalid_request", digest)
    try:
        return Answer(200, shape(Question(digest, decoded, len(body), embedding_dimensions)))
    except InvalidInput as invalid:
        return refusal(400, str(invalid), invalid.param, invalid.code, digest)


def refusal(status_code: int, message: str, param: str | None, code: str | None, digest: str) -> Answer:
    """An error answer; its message names the request, as proof of whose it is."""
    worded = f"{message} (request ID {request_id(digest)})"
    return Answer(status_code, error_body(worded, "invalid_request_error", param, code))
