import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import RejectedMessage
from penstock.core.lane import EMBEDDINGS
from penstock.core.request import Request, RequestLimits, checked, parse_request, read_slowly
from tests.support.bad_messages import BODY_BYTES_MAX, URL, VALUES, Bad, embeddings, line
from tests.support.odd_bodies import BODIES

LIMITS = RequestLimits(BODY_BYTES_MAX)
ROOMY = RequestLimits()


def slowly(value: bytes) -> Request:
    return checked(*read_slowly(value), LIMITS)


@pytest.mark.parametrize("bad", VALUES.values(), ids=VALUES)
def test_what_cannot_be_a_request_is_rejected_with_its_code(bad: Bad) -> None:
    with pytest.raises(RejectedMessage) as rejected:
        parse_request(bad.value, LIMITS)
    assert rejected.value.code == bad.code
    assert rejected.value.reason.endswith(".")


def test_a_reason_holds_nothing_of_the_message() -> None:
    for bad in VALUES.values():
        secret = (bad.value or b"").replace(b'"a"', b'"Geheimnis"').replace(b'"m"', b'"Geheimnis"')
        with pytest.raises(RejectedMessage) as rejected:
            parse_request(secret, LIMITS)
        assert "Geheimnis" not in str(rejected.value)


@pytest.mark.outcome(
    "body-escapes", "body-separators", "body-surrogates", "body-integers", "body-floats", "body-order", "body-deep"
)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_is_kept_byte_for_byte(body: bytes) -> None:
    request = parse_request(line(body), ROOMY)
    assert (request.body, request.model, request.custom_id, request.inputs) == (body, "m", "a", 1)
    assert checked(*read_slowly(line(body)), ROOMY) == request


@pytest.mark.outcome("body-pretty")
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
@settings(max_examples=200)
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
@settings(max_examples=200)
def test_damaged_bytes_are_never_taken_for_a_request_that_is_no_json(value: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(value) - 1))
    damaged = value[:place] + data.draw(st.binary(max_size=2)) + value[place + 1 :]
    try:
        request = parse_request(damaged, LIMITS)
    except RejectedMessage:
        return
    assert json.loads(damaged.decode())["custom_id"] == request.custom_id
    assert json.loads(request.body) == json.loads(damaged.decode())["body"]
