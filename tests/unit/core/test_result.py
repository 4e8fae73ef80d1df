import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.gathering import wire_lines
from penstock.core.identity import new_id
from penstock.core.result import (
    DEAD_LETTER_VALUE_BYTES,
    dead_letter_headers,
    error_value,
    original_line,
    passed,
    result_headers,
    result_value,
    truncated,
)
from tests.unit.core.test_chunk import TOPIC_ID, manifest_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
RESPONSES = [
    b"null",
    b'{"status_code": 200, "body": {"t": "a\\nb", "n": 123456789012345678901234567890, "x": 1e400}}',
    b'{"status_code":200,"body":{"t":"\\ud83d"}}',
    b'{"b":1,"a":2,"b":3}',
    '{"body":"\u2028\u0085"}'.encode(),
]
ERRORS = [b"null", b'{"code":"x","message":"\\ude00"}']


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("error", ERRORS)
def test_a_result_keeps_everything_but_the_custom_id(response: bytes, error: bytes) -> None:
    line = b'{"id": "batch_req_1", "custom_id": "ours", "response": %b, "error": %b}' % (response, error)
    value = result_value(line, 'the "producer\'s" \u2028 id')
    assert b'"response":%b,"error":%b}' % (response, error) in value
    assert json.loads(value) == {**json.loads(line), "custom_id": 'the "producer\'s" \u2028 id'}


def test_members_that_a_provider_leaves_out_are_null() -> None:
    assert json.loads(result_value(b'{"custom_id":"ours"}', "a")) == {
        "id": None,
        "custom_id": "a",
        "response": None,
        "error": None,
    }


@given(TEXTS, TEXTS, TEXTS)
def test_an_error_of_ours_has_the_shape_of_the_providers(custom_id: str, code: str, message: str) -> None:
    value = error_value("cluster/t/0/1", custom_id, code, message)
    assert json.loads(value) == {
        "id": "cluster/t/0/1",
        "custom_id": custom_id,
        "response": None,
        "error": {"code": code, "message": message},
    }


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","seed":123456789012345678901234567890}',
        b'{"model":"m","x":1e400}',
        b'{"model":"m","t":"\\ud83d","u":"\\"custom_id\\""}',
    ],
)
def test_a_request_that_comes_back_could_be_sent_again(body: bytes) -> None:
    (line,) = wire_lines(new_id(), "/v1/responses", [body])
    again = original_line(line, 'my "id"')
    assert again == b'{"custom_id":"my \\"id\\"","method":"POST","url":"/v1/responses","body":%b}' % body


def test_headers_for_tracing_and_those_of_the_producer_pass() -> None:
    headers = [("traceparent", b"1"), ("x-mine", None), ("tenant", b"n"), ("secret", b"s"), ("X-Mine", b"2")]
    assert passed(headers) == [("traceparent", b"1"), ("x-mine", None), ("tenant", b"n")]


def test_a_result_names_its_message_and_its_batch() -> None:
    headers = result_headers(manifest_of([b"a", b"b"]), 1, [("penstock-batch-id", b"7")])
    assert headers == [
        ("x-trace", b"7"),
        ("none", None),
        ("penstock-result-id", f"cluster/{TOPIC_ID.hex}/2/101".encode()),
        ("penstock-batch-id", b"7"),
    ]


def test_a_dead_letter_says_why_and_where_it_came_from() -> None:
    headers = dict(dead_letter_headers(manifest_of([b"a"]), 0, "invalid_json", "No JSON.", "intake"))
    assert headers == {
        "x-trace": b"7",
        "none": None,
        "penstock-result-id": f"cluster/{TOPIC_ID.hex}/2/100".encode(),
        "penstock.error.code": b"invalid_json",
        "penstock.error.reason": b"No JSON.",
        "penstock.error.stage": b"intake",
        "penstock.origin.topic": b"requests",
        "penstock.origin.partition": b"2",
        "penstock.origin.offset": b"100",
        "penstock.origin.timestamp": b"1000500",
    }


def test_a_value_that_is_cut_says_how_large_it_was() -> None:
    value = bytes(range(256)) * 1000
    kept, headers = truncated(value)
    assert kept == value[:DEAD_LETTER_VALUE_BYTES]
    assert headers == [
        ("penstock.truncated.bytes", b"256000"),
        ("penstock.truncated.sha256", hashlib.sha256(value).hexdigest().encode()),
    ]
