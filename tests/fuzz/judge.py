"""Another reading of the contract, slow and plain, and what intake made of a message held against it."""

import json
import uuid
from dataclasses import dataclass
from typing import Any
from unicodedata import category

from penstock.core.chunk import Headers, Manifest, decode_manifest, read_lines
from penstock.core.gathering import Gathering, Rules, Source
from penstock.core.lane import DEAD_LETTERS, ENDPOINTS, LanePolicy, Lanes
from penstock.core.request import RequestLimits
from tests.fuzz.message import Fuzzed
from tests.support.bad_messages import says

SOURCE = Source("cluster", "requests", uuid.UUID(int=5))
BODY_BYTES, NARROW_BODY_BYTES = 20_000, 100
INPUTS, NARROW_INPUTS = LanePolicy().inputs_max, 1
NARROW_MODELS = ("m",)
TOPICS = frozenset({"results"})
WIDE = Rules("account", Lanes(), RequestLimits(BODY_BYTES), "results", "dead", TOPICS)
NARROW = Rules(
    "account",
    Lanes(LanePolicy(inputs_max=NARROW_INPUTS), models=NARROW_MODELS),
    RequestLimits(NARROW_BODY_BYTES),
    "results",
    "dead",
    TOPICS,
)
DEPTH = 200
SYNTAX = frozenset(
    {
        "invalid_utf8",
        "invalid_json",
        "schema_registry_frame",
        "invalid_number",
        "not_an_object",
        "duplicate_key",
        "nested_too_deep",
    }
)
ACCEPTED = "accepted"
LATER = frozenset(
    {
        ACCEPTED,
        "body_too_large",
        "model_not_allowed",
        "too_many_inputs",
        "headers_too_large",
        "key_too_large",
        "result_topic_not_allowed",
        "invalid_deadline",
        "invalid_priority",
        "lane_limit",
    }
)
"""What may become of a message that is a request, as far as its value alone tells."""
LANE, DEAD = 1, 2


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
    gathered = Gathering(NARROW if message.narrow else WIDE, 0.0)
    gathered.sort(SOURCE, [Record(message.value, message.headers, key=message.key)])
    (lane,) = gathered.lanes()
    ((lane_id, chunk),) = gathered.pack(({} if message.crowded else {lane: LANE}) | {DEAD_LETTERS: DEAD})
    manifest = decode_manifest(chunk.manifest)
    (line,) = read_lines(chunk.lines, manifest)
    return manifest, line, lane_id == LANE


def outcome(message: Fuzzed) -> str:
    """Let intake take a message in; returns the reason's code, or `accepted`.

    Raises:
        AssertionError: what it did is against the contract.
    """
    manifest, line, accepted = take_in(message)
    value = message.value or b""
    members = read(value)
    if accepted:
        code = ACCEPTED
        assert members is not None, "taken, and no JSON"
        check_line(line, manifest, value, members)
        assert manifest.keys == [message.key], "another key"
    else:
        ((code, sentence),) = manifest.reasons
        assert says(code, sentence), "a dead letter without its reason"
        assert line == value, "a dead letter with other bytes"
        assert (manifest.keys, manifest.headers) == ([message.key], [message.headers]), (
            "a dead letter with another key or headers"
        )
    if members is not None and is_request(members):
        wanted = verdict(message, members)
        assert code == wanted, f"{code}, and the contract says {wanted}"
    elif value:
        assert (members is None) == (code in SYNTAX), f"{code}, and JSON says otherwise"
        assert code not in LATER, f"{code}, and it is no request"
        framed = value.startswith(b"\0") and value[5:] != b""
        assert framed == (code == "schema_registry_frame"), f"{code}, and a schema registry's frame says otherwise"
    else:
        assert code == "empty_value", f"{code}, and there is no value"
    return code


def verdict(message: Fuzzed, members: dict[str, Any]) -> str:
    """What is to become of a request, whose parts are as they should be: its size, headers, lane and key decide."""
    size_bytes = body_bytes((message.value or b"").decode())
    if size_bytes > (NARROW_BODY_BYTES if message.narrow else BODY_BYTES):
        return "body_too_large"
    if fault := fault_of(message.headers):
        return fault
    if message.narrow and members["body"]["model"] not in NARROW_MODELS:
        return "model_not_allowed"
    if inputs_of(members) > (NARROW_INPUTS if message.narrow else INPUTS):
        return "too_many_inputs"
    if len(message.key or b"") > 64 * 1024:
        return "key_too_large"
    return "lane_limit" if message.crowded else ACCEPTED


def fault_of(headers: Headers) -> str | None:
    """Why headers are refused, if they are: all of them together, else the first that is bad."""
    if len(headers) > 100 or sum(len(name) + len(value or b"") for name, value in headers) > 16 * 1024:
        return "headers_too_large"
    for name, value in headers:
        if name == "penstock-result-topic" and value != b"results":
            return "result_topic_not_allowed"
        if name == "penstock-deadline-seconds" and value != b"60":
            return "invalid_deadline"
        if name == "penstock-priority" and value not in (b"high", b"normal", b"low"):
            return "invalid_priority"
    return None


def check_line(line: bytes, manifest: Manifest, value: bytes, members: dict[str, Any]) -> None:
    """A request's line is one line, its body the producer's."""
    assert line.index(b"\n") == len(line) - 1, "more than one line"
    body = line.partition(b'"body":')[2][:-2]
    blank = bytes.maketrans(b"\r\n", b"  ")
    assert body in value.translate(blank), "the body was changed"
    assert strict(body) == members["body"], "the body says something else"
    assert manifest.custom_ids == [members["custom_id"]]
    assert manifest.inputs == [inputs_of(members)]


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


def inputs_of(members: dict[str, Any]) -> int:
    """How many embedding inputs a request has; 1 for every other."""
    inputs = members["body"].get("input")
    many = members["url"] == "/v1/embeddings" and isinstance(inputs, list) and inputs
    return len(inputs) if many and not isinstance(inputs[0], float | bool) else 1


def body_bytes(text: str) -> int:
    """The bytes of a request's body, between its braces and with them."""
    decoder = json.JSONDecoder(parse_int=float)

    def value_at(place: int) -> tuple[Any, int, int]:
        first = len(text) - len(text[place:].lstrip(" \n\r\t:,"))
        return *decoder.raw_decode(text, first), first

    place = text.index("{") + 1
    while True:
        name, place, _ = value_at(place)
        _, place, first = value_at(place)
        if name == "body":
            return len(text[first:place].encode())
