import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from penstock.core.answered import Answered, AnsweredSpan, log_of
from penstock.core.decision import FORMAT, Decision, Outcome
from penstock.core.gathering import wire_lines
from penstock.core.identity import new_id
from penstock.core.publication import (
    Publication,
    Record,
    may_overflow,
    record_bytes,
    shared_headers,
    traces,
)
from penstock.core.result import HEADERS_BYTES_MAX, KEY_BYTES_MAX
from penstock.core.window import Part
from tests.unit.core.test_chunk import manifest_of

BODIES = [b'{"model":"m","n":%d}' % number for number in range(4)]
LINES = wire_lines(new_id(), "/v1/responses", BODIES)
PART = Part(new_id(), 1, 3)
START = 10
"""The position of the part's first request."""


def publication(
    *outcomes: Outcome, answer_bytes: int = 10, results_max: int = 1_000_000, dead_max: int = 1_000_000
) -> Publication:
    """Of a batch whose part begins at position 10 and takes the last three of four requests."""

    def line_of(position: int) -> bytes:
        body = "x" * answer_bytes
        return json.dumps({"id": f"r{position}", "custom_id": "ours", "response": {"body": body}}).encode()

    return Publication(
        Decision(FORMAT, bytes(START) + bytes(outcomes), "model_not_found", "No such model."),
        line_of,
        lambda position: ("file-1", position * 100),
        "dead",
        {"results": results_max, "dead": dead_max},
    )


def records(of: Publication, *, lines: Sequence[bytes] | None = LINES) -> list[Record]:
    manifest = manifest_of(list(LINES))
    manifest.reasons = [("invalid_json", "No JSON.")] * 4
    last = len(of.decision.outcomes)
    return of.records(manifest, PART, START, START, last, lines, [("penstock-batch-id", b"7")])


def test_final_results_come_in_the_order_of_the_requests_and_tries_have_none() -> None:
    found = records(publication(Outcome.OUTPUT, Outcome.RETRY, Outcome.ERROR))
    assert [json.loads(each.value or b"")["custom_id"] for each in found] == ["id-1", "id-3"]
    assert [json.loads(each.value or b"")["id"] for each in found] == ["r10", "r12"]
    assert [each.key for each in found] == [None, None]
    assert all(each.topic == "results" and each.dead is None for each in found)
    assert all(("penstock-batch-id", b"7") in each.headers for each in found)


def test_what_is_answered_already_is_left_out() -> None:
    origin = manifest_of(list(LINES)).origin(2)
    answered = Answered({log_of(origin): [AnsweredSpan(origin.offset, origin.offset)]})
    found = records(replace(publication(*[Outcome.OUTPUT] * 3), answered=answered))
    assert [json.loads(each.value or b"")["custom_id"] for each in found] == ["id-1", "id-3"]


def test_a_slice_of_the_positions_is_the_same_records() -> None:
    whole = publication(Outcome.OUTPUT, Outcome.ERROR, Outcome.EXHAUSTED)
    manifest = manifest_of(list(LINES))
    pieces = [whole.records(manifest, PART, START, p, p + 1, LINES, [])[0] for p in (10, 11, 12)]
    assert pieces == whole.records(manifest, PART, START, 10, 13, LINES, [])


def test_a_verdict_answers_with_its_code() -> None:
    (found,) = records(publication(Outcome.VERDICT))
    assert json.loads(found.value or b"")["error"] == {"code": "model_not_found", "message": "No such model."}


def test_a_passed_deadline_answers_with_its_code() -> None:
    (found,) = records(publication(Outcome.DEADLINE))
    assert json.loads(found.value or b"")["error"]["code"] == "deadline_exceeded"
    assert json.loads(found.value or b"")["id"].endswith("/2/101")


def test_a_rejected_message_goes_to_the_dead_letter_topic_as_it_came() -> None:
    (found,) = records(publication(Outcome.DEAD_LETTER))
    assert (found.topic, found.dead, found.value) == ("dead", "invalid_json", LINES[1])
    assert ("penstock.error.stage", b"intake") in found.headers


def test_a_rejected_message_without_a_value_comes_back_without_one_however_large_the_rest_is() -> None:
    chunk = manifest_of(list(LINES))
    chunk.reasons, chunk.nulls = [("empty_value", "No value.")] * 4, [1]
    for most in (100_000, 10):
        decided = publication(Outcome.DEAD_LETTER, dead_max=most)
        (found,) = decided.records(chunk, PART, START, START, START + 1, LINES, [])
        assert found.value is None
        assert "penstock.truncated.bytes" not in dict(found.headers)


@pytest.mark.parametrize("outcome", [Outcome.OUTPUT, Outcome.ERROR, Outcome.EXHAUSTED])
def test_an_oversize_result_is_a_dead_letter_with_the_request_and_the_place_of_the_result(outcome: Outcome) -> None:
    (found,) = records(publication(outcome, answer_bytes=200_000, results_max=200_000))
    assert (found.topic, found.dead) == ("dead", "result_too_large")
    assert json.loads(found.value or b"")["custom_id"] == "id-1"
    assert json.loads(found.value or b"")["body"] == json.loads(BODIES[1])
    headers = dict(found.headers)
    assert headers["penstock.provider.file"] == b"file-1"
    assert headers["penstock.provider.byte"] == b"1000"
    assert headers["penstock.error.stage"] == b"publisher"
    assert headers["penstock-batch-id"] == b"7"
    assert "penstock.truncated.bytes" not in headers


def test_a_result_that_just_fits_is_published() -> None:
    (whole,) = records(publication(Outcome.OUTPUT, answer_bytes=100_000))
    exact = record_bytes(whole.key, whole.value, whole.headers)
    assert records(publication(Outcome.OUTPUT, answer_bytes=100_000, results_max=exact)) == [whole]
    (over,) = records(publication(Outcome.OUTPUT, answer_bytes=100_000, results_max=exact - 1))
    assert over.dead == "result_too_large"


def test_a_dead_letter_too_large_for_its_topic_is_cut() -> None:
    large = [b"x" * 300_000] * 4
    (found,) = records(publication(Outcome.DEAD_LETTER, dead_max=100_000), lines=large)
    assert len(found.value or b"") == 50_000
    assert dict(found.headers)["penstock.truncated.bytes"] == b"300000"
    assert record_bytes(found.key, found.value, found.headers) <= 100_000


def test_a_dead_letter_whose_key_and_headers_fit_no_topic_keeps_what_says_where_it_came_from() -> None:
    decided = publication(Outcome.DEAD_LETTER, dead_max=10_000)
    chunk = manifest_of(list(LINES))
    chunk.reasons = [("invalid_json", "No JSON.")] * 4
    chunk.keys = [b"k" * 20_000] * 4
    chunk.headers = [[("theirs", b"h"), ("penstock-theirs", b"h" * 20_000)] for _ in range(4)]
    (found,) = decided.records(chunk, PART, START, START, START + 1, [b"x" * 30_000] * 4, [])
    names = dict(found.headers)
    assert found.key is None
    assert not {"theirs", "penstock-theirs"} & names.keys()
    assert names["penstock.truncated.headers"] == b"2"
    assert names["penstock.truncated.bytes"] == b"30000"
    assert {"penstock.origin.offset", "penstock.error.code", "penstock.truncated.key.sha256"} <= names.keys()
    assert record_bytes(found.key, found.value, found.headers) <= 10_000


def test_what_cannot_overflow_fits_with_the_longest_key_and_headers() -> None:
    limit = 1_000_000
    value_bytes = next(size for size in range(limit, 0, -1) if not may_overflow(size, limit))
    headers = [("x", bytes(HEADERS_BYTES_MAX - 1)), *shared_headers("b" * 32, "p" * 64, 9, None, None)]
    headers.append(("penstock-result-id", b"r" * 200))
    assert record_bytes(bytes(KEY_BYTES_MAX), bytes(value_bytes), headers) <= limit


def test_headers_of_a_part_count_attempts_from_one_and_leave_unknown_times_empty() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    assert shared_headers("b", "p", 2, at, None) == [
        ("penstock-batch-id", b"b"),
        ("penstock-provider-batch-id", b"p"),
        ("penstock-attempt", b"3"),
        ("penstock-submitted-at", b"2026-01-02T00:00:00+00:00"),
        ("penstock-ended-at", b""),
    ]
    assert dict(shared_headers("b", None, 0, None, None))["penstock-provider-batch-id"] == b""


def test_the_traces_of_records_are_told_once_and_only_where_they_are_some() -> None:
    trace, other = b"0af7651916cd43dd8448eb211c80319c", b"ff" * 16
    parents = [b"00-%b-b7ad6b7169203331-01" % each for each in (trace, trace, other)] + [b"a prompt", b"", None]
    sent = [Record("results", None, b"", [("traceparent", parent), ("x-none", None)]) for parent in parents]
    assert traces(sent) == [trace.decode(), other.decode()]
