import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import RejectedMessage
from penstock.core.lane import EMBEDDINGS
from penstock.core.request import Request, RequestLimits, checked, parse_request, read_slowly

LIMITS = RequestLimits(body_bytes_max=2000, inputs_max=3)
URL = "/v1/responses"


def line(body: bytes, url: str = URL) -> bytes:
    return b'{"custom_id":"a","url":"%b","body":%b}' % (url.encode(), body)


def embeddings(given: bytes) -> bytes:
    return line(b'{"model":"m","input":%b}' % given, EMBEDDINGS)


def slowly(value: bytes) -> Request:
    return checked(*read_slowly(value), LIMITS)


REJECTED = {
    "no value": (None, "empty_value"),
    "an empty value": (b"", "empty_value"),
    "no UTF-8": (line(b'{"model":"m","input":"\xff"}'), "invalid_utf8"),
    "half a UTF-8 sequence": (line(b'{"model":"m","input":"\xe2\x80"}'), "invalid_utf8"),
    "nested too deep": (b"[" * 100_000, "nested_too_deep"),
    "a body nested too deep": (line(b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "nested_too_deep"),
    "no JSON": (b"hello", "invalid_json"),
    "half an object": (line(b'{"model":"m"}')[:-1], "invalid_json"),
    "a list": (b"[]", "invalid_json"),
    "a number": (b"1", "invalid_json"),
    "two objects": (line(b'{"model":"m"}') + b"{}", "invalid_json"),
    "a byte order mark": (b"\xef\xbb\xbf" + line(b'{"model":"m"}'), "invalid_json"),
    "NaN": (line(b'{"model":"m","x":NaN}'), "invalid_json"),
    "Infinity": (line(b'{"model":"m","x":-Infinity}'), "invalid_json"),
    "a leading zero": (line(b'{"model":"m","x":01}'), "invalid_json"),
    "a trailing comma": (line(b'{"model":"m",}'), "invalid_json"),
    "a line feed inside a text": (line(b'{"model":"m","x":"a\nb"}'), "invalid_json"),
    "an unknown escape": (line(b'{"model":"m","x":"\\x"}'), "invalid_json"),
    "no custom_id": (b'{"url":"/v1/responses","body":{"model":"m"}}', "missing_custom_id"),
    "a number as custom_id": (b'{"custom_id":1,"url":"/v1/responses","body":{"model":"m"}}', "missing_custom_id"),
    "an empty custom_id": (b'{"custom_id":"","url":"/v1/responses","body":{"model":"m"}}', "invalid_custom_id"),
    "a long custom_id": (
        b'{"custom_id":"%b","url":"/v1/responses","body":{"model":"m"}}' % ("é" * 257).encode(),
        "invalid_custom_id",
    ),
    "half a pair as custom_id": (
        b'{"custom_id":"\\ud800","url":"/v1/responses","body":{"model":"m"}}',
        "invalid_custom_id",
    ),
    "no url": (b'{"custom_id":"a","body":{"model":"m"}}', "missing_url"),
    "null as url": (b'{"custom_id":"a","url":null,"body":{"model":"m"}}', "missing_url"),
    "an unknown url": (line(b'{"model":"m"}', "/v1/files"), "invalid_url"),
    "a whole address as url": (line(b'{"model":"m"}', "http://h/v1/responses"), "invalid_url"),
    "GET": (b'{"custom_id":"a","method":"GET","url":"/v1/responses","body":{"model":"m"}}', "invalid_method"),
    "a number as method": (
        b'{"custom_id":"a","method":1,"url":"/v1/responses","body":{"model":"m"}}',
        "invalid_method",
    ),
    "no body": (b'{"custom_id":"a","url":"/v1/responses"}', "missing_body"),
    "a text as body": (line(b'"{}"'), "missing_body"),
    "no model": (line(b"{}"), "missing_model"),
    "a number as model": (line(b'{"model":4}'), "missing_model"),
    "an empty model": (line(b'{"model":""}'), "missing_model"),
    "a long model": (line(b'{"model":"%b"}' % (b"m" * 513)), "missing_model"),
    "a model with NUL": (line(b'{"model":"m\\u0000"}'), "missing_model"),
    "a model with half a pair": (line(b'{"model":"\\ud800"}'), "missing_model"),
    "a stream": (line(b'{"model":"m","stream":true}'), "streaming_unsupported"),
    "a text as stream": (line(b'{"model":"m","stream":"no"}'), "streaming_unsupported"),
    "a large body": (line(b'{"model":"m","input":"%b"}' % (b"x" * 2000)), "body_too_large"),
    "too many inputs": (embeddings(b'["a","b","c","d"]'), "too_many_inputs"),
    "null as embeddings input": (embeddings(b"null"), "invalid_input"),
    "an object as embeddings input": (embeddings(b"{}"), "invalid_input"),
    "no embeddings input": (line(b'{"model":"m"}', EMBEDDINGS), "invalid_input"),
}


@pytest.mark.parametrize(("value", "code"), REJECTED.values(), ids=REJECTED)
def test_what_cannot_be_a_request_is_rejected_with_its_code(value: bytes | None, code: str) -> None:
    with pytest.raises(RejectedMessage) as rejected:
        parse_request(value, LIMITS)
    assert rejected.value.code == code
    assert rejected.value.reason.endswith(".")


def test_a_reason_holds_nothing_of_the_message() -> None:
    for value, _ in REJECTED.values():
        secret = (value or b"").replace(b'"a"', b'"Geheimnis"').replace(b'"m"', b'"Geheimnis"')
        with pytest.raises(RejectedMessage) as rejected:
            parse_request(secret, LIMITS)
        assert "Geheimnis" not in str(rejected.value)


BODIES = {
    "escaped line feeds": b'{"model":"m","input":"a\\nb\\r\\n"}',
    "U+2028 and U+0085": '{"model":"m","input":"a\u2028b\u0085c\u2029"}'.encode(),
    "escaped NUL": b'{"model":"m","input":"a\\u0000b"}',
    "half a surrogate pair": b'{"model":"m","input":"\\ud83d"}',
    "a swapped surrogate pair": b'{"model":"m","input":"\\ude00\\ud83d"}',
    "an integer of 30 digits": b'{"model":"m","seed":123456789012345678901234567890}',
    "a number beyond any float": b'{"model":"m","x":1e400,"y":-1E+400}',
    "a number with every digit": b'{"model":"m","x":0.10000000000000000555,"y":-0.0,"z":1.0}',
    "the order of keys": b'{"z":1,"model":"m","a":2}',
    "a repeated key": b'{"model":"x","model":"m"}',
    "blanks": b'{ "model" :\t"m" , "input" : [ ] }',
    "escaped slashes": b'{"model":"m","input":"<\\/a>\\u003c"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_is_kept_byte_for_byte(body: bytes) -> None:
    request = parse_request(line(body), LIMITS)
    assert (request.body, request.model, request.custom_id, request.inputs) == (body, "m", "a", 1)


def test_a_pretty_printed_body_becomes_one_line_of_the_same_length() -> None:
    body = b'{\r\n  "model": "m",\n  "input": "a\\nb"\n}'
    request = parse_request(b'{\n"custom_id": "a",\n"url": "/v1/responses",\n"body": %b\n}\n' % body, LIMITS)
    assert request.body == body.replace(b"\n", b" ").replace(b"\r", b" ")
    assert len(request.body) == len(body)
    assert json.loads(request.body) == json.loads(body)


def test_method_may_be_left_out_and_unknown_members_are_ignored() -> None:
    request = parse_request(
        b'{"x":[1],"custom_id":"a","url":"/v1/responses","body":{"model":"m","stream":null}}', LIMITS
    )
    assert request.url == URL


def test_half_a_surrogate_pair_beside_the_body_is_ignored_as_well() -> None:
    value = b'{"note":"\\ud800","custom_id":"a","url":"/v1/responses","body":{"model":"m"},"method":"POST"}'
    assert parse_request(value, LIMITS) == parse_request(line(b'{"model":"m"}'), LIMITS)


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        (b'"one text"', 1),
        (b'["a","b","c"]', 3),
        (b"[1,2,3,4,5]", 1),
        (b"[ 1 , 2 ]", 1),
        (b"[[1,2],[3],[4,5,6]]", 3),
        (b"[\n[1]\n,[2]]", 2),
        (b"[]", 1),
        (b'["\\ud800","b"]', 2),
    ],
)
def test_embeddings_inputs_are_counted(text: bytes, inputs: int) -> None:
    assert parse_request(embeddings(text), LIMITS).inputs == inputs
    assert slowly(embeddings(text)).inputs == inputs


def test_a_list_of_inputs_counts_for_embeddings_alone() -> None:
    assert parse_request(line(b'{"model":"m","input":["a","b","c","d"]}'), LIMITS).inputs == 1


def test_limits_are_inclusive() -> None:
    body = b'{"model":"m","input":"%b"}'
    exact = body % (b"x" * (LIMITS.body_bytes_max - len(body % b"")))
    assert parse_request(line(exact), LIMITS).body == exact
    long_id = "é" * 256
    value = json.dumps({"custom_id": long_id, "url": URL, "body": {"model": "m"}}).encode()
    assert parse_request(value, LIMITS).custom_id == long_id


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
INPUTS = st.lists(TEXTS, max_size=3) | st.lists(st.integers(0, 99), max_size=3) | TEXTS | JSON


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Lines, most of them valid: any of their members may be gone or of another type."""
    body = {
        "model": draw(st.just("m") | JSON),
        "input": draw(INPUTS),
        "stream": draw(st.sampled_from([None, False, True, 1])),
        "more": draw(JSON),
    }
    members: dict[str, Any] = {
        "custom_id": draw(TEXTS | JSON),
        "url": draw(st.sampled_from([URL, EMBEDDINGS, "/v1/x", None])),
        "method": draw(st.sampled_from(["POST", "POST", "GET", 1])),
        "body": {name: value for name, value in body.items() if draw(st.integers(0, 9))},
    }
    members = {name: value for name, value in members.items() if draw(st.integers(0, 9))}
    text = json.dumps(members, indent=draw(st.none() | st.integers(0, 2)), ensure_ascii=draw(st.booleans()))
    return text.encode()


@given(messages())
@settings(deadline=None, max_examples=200)
def test_the_fast_way_and_the_slow_way_agree(value: bytes) -> None:
    try:
        fast: Request | str = parse_request(value, LIMITS)
    except RejectedMessage as rejection:
        fast = rejection.code
    try:
        slow: Request | str = slowly(value)
    except RejectedMessage as rejection:
        slow = rejection.code
    assert fast == slow


@given(messages(), st.data())
@settings(deadline=None, max_examples=200)
def test_damaged_bytes_are_never_taken_for_a_request_that_is_no_json(value: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(value) - 1))
    damaged = value[:place] + data.draw(st.binary(max_size=2)) + value[place + 1 :]
    try:
        request = parse_request(damaged, LIMITS)
    except RejectedMessage:
        return
    assert json.loads(damaged.decode())["custom_id"] == request.custom_id
    assert json.loads(request.body) == json.loads(damaged.decode())["body"]
