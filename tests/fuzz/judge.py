"""Another reading of the contract, slow and plain, and what intake made of a message held against it."""

import json
import uuid
from dataclasses import dataclass
from typing import Any
from unicodedata import category

from penstock.core.chunk import Headers, Manifest, decode_manifest, read_lines
from penstock.core.gathering import Gathering, Rules, Source
from penstock.core.lane import DEAD_LETTERS, ENDPOINTS, Lanes
from penstock.core.reasons import REASONS
from penstock.core.request import RequestLimits
from tests.fuzz.message import Fuzzed
from tests.support.bad_messages import BODY_BYTES_MAX, says

SOURCE = Source("cluster", "requests", uuid.UUID(int=5))
BODY_BYTES = 10 * BODY_BYTES_MAX
RULES = Rules("account", Lanes(), RequestLimits(BODY_BYTES), "results", "dead", frozenset({"results"}))
DEPTH = 200
SYNTAX = frozenset(
    {"invalid_utf8", "invalid_json", "invalid_number", "not_an_object", "duplicate_key", "nested_too_deep"}
)
BY_HEADERS = frozenset({"headers_too_large", "result_topic_not_allowed", "invalid_deadline"})
ACCEPTED = "accepted"


@dataclass(slots=True)
class Record:
    """A Kafka record."""

    value: bytes | None
    headers: Headers
    offset: int = 7
    partition: int = 0
    timestamp: int = 0
    key: bytes | None = b"key"


def take_in(message: Fuzzed) -> tuple[Manifest, bytes, bool]:
    """What intake stores of a message: its manifest, its line, and whether it is a request."""
    gathered = Gathering(RULES, 0.0)
    gathered.sort(SOURCE, [Record(*message)])
    (kind,) = gathered.groups
    ((_, chunk),) = gathered.pack({kind.lane: 1, DEAD_LETTERS: 2})
    manifest = decode_manifest(chunk.manifest)
    (line,) = read_lines(chunk.lines, manifest)
    return manifest, line, not kind.lane.dead


def outcome(message: Fuzzed) -> str:
    """Let intake take a message in; returns the reason's code, or `accepted`.

    Raises:
        AssertionError: what it did is against the contract.
    """
    manifest, line, accepted = take_in(message)
    members = read(message.value)
    good = members is not None and is_request(members) and body_fits(message.value or b"")
    if accepted:
        assert good, "taken, and no request"
        assert members is not None
        check_line(line, manifest, message.value or b"", members)
        return ACCEPTED
    ((code, sentence),) = manifest.reasons
    assert says(code, sentence), "a dead letter without its reason"
    assert line == (message.value or b""), "a dead letter with other bytes"
    assert (manifest.keys, manifest.headers) == ([b"key"], [message.headers]), (
        "a dead letter with another key or headers"
    )
    if code in BY_HEADERS:
        assert message.headers, "refused for headers that it has not"
        assert good, "refused for its headers, and it is no request"
    elif message.value:
        assert (members is None) == (code in SYNTAX), f"{code}, and JSON says otherwise"
        assert code in REASONS, "an unknown code"
        assert not good or code == "body_too_large", f"refused as {code}, and it is a request"
    return code


def check_line(line: bytes, manifest: Manifest, value: bytes, members: dict[str, Any]) -> None:
    """A request's line is one line, its body the producer's."""
    assert line.index(b"\n") == len(line) - 1, "more than one line"
    body = line.partition(b'"body":')[2][:-2]
    blank = bytes.maketrans(b"\r\n", b"  ")
    assert body in value.translate(blank), "the body was changed"
    assert strict(body) == members["body"], "the body says something else"
    assert (manifest.custom_ids, manifest.keys) == ([members["custom_id"]], [b"key"])
    inputs = members["body"].get("input")
    many = members["url"] == "/v1/embeddings" and isinstance(inputs, list) and inputs
    assert manifest.inputs == [len(inputs) if many and not isinstance(inputs[0], float | bool) else 1]


def strict(text: bytes) -> Any:
    """JSON and nothing beyond it.

    Raises:
        ValueError: it is none, or has a key twice.
        RecursionError: it is deep.
    """

    def constant(name: str) -> None:
        raise ValueError(name)

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in members}) < len(members):
            raise ValueError("a key twice")
        return dict(members)

    return json.loads(text.decode(), parse_constant=constant, parse_int=float, object_pairs_hook=pairs)


def read(value: bytes | None) -> dict[str, Any] | None:
    """The value's members; None when it is no JSON object as the contract takes it."""
    try:
        members = strict(value or b"")
    except (ValueError, RecursionError):
        return None
    return members if isinstance(members, dict) and levels(members) <= DEPTH else None


def levels(value: Any) -> int:
    """The objects and lists around the deepest value."""
    level, depth = [value], -1
    while level:
        depth += 1
        level = [
            each
            for outer in level
            for each in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
    return depth


def is_request(members: dict[str, Any]) -> bool:
    """Whether the members are a request's."""
    custom_id, url, body = (members.get(name) for name in ("custom_id", "url", "body"))
    if not isinstance(custom_id, str) or not isinstance(body, dict) or url not in ENDPOINTS:
        return False
    half_pairs = any("\ud800" <= each <= "\udfff" for each in custom_id)
    model, stream = body.get("model"), body.get("stream")
    return (
        not half_pairs
        and 0 < len(custom_id.encode()) <= 512
        and members.get("method", "POST") == "POST"
        and isinstance(model, str)
        and 0 < len(model) <= 512
        and not any(each in "\u2028\u2029" or category(each) in ("Cc", "Cs") for each in model)
        and (stream is None or stream is False)
        and (url != "/v1/embeddings" or isinstance(body.get("input"), str | list))
    )


def body_fits(value: bytes) -> bool:
    """Whether the body cannot be over its limit; one that can be is left to the parser."""
    return len(value) <= BODY_BYTES
