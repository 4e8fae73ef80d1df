import json
import random
import uuid
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.batch import locate
from penstock.core.decision import (
    FINAL,
    FORMAT,
    FORMAT_UNREADABLE,
    FROM_FILE,
    Decision,
    Found,
    Kind,
    Outcome,
    Reconciliation,
    decide,
    decode_decision,
    encode_decision,
    kind_of,
    name_in,
    read_line,
    unsupported,
)
from penstock.core.errors import UnknownFormat
from penstock.core.identity import wire_id
from penstock.core.result import result_value
from penstock.core.window import Part

CHUNK = uuid.UUID(int=7)
SHAPES: dict[str, dict[str, Any]] = {
    "success": {"response": {"status_code": 200, "request_id": "r", "body": {"x": 1}}, "error": None},
    "refused": {"response": {"status_code": 400, "body": {"error": {"code": "bad"}}}, "error": None},
    "limited": {"response": {"status_code": 429, "body": {}}, "error": None},
    "broken": {"response": {"status_code": 500, "body": {}}, "error": None},
    "expired": {"response": None, "error": {"code": "batch_expired", "message": "m"}},
}
KINDS = {
    "success": Kind.SUCCESS,
    "refused": Kind.FINAL_ERROR,
    "limited": Kind.OWN_FAILURE,
    "broken": Kind.OWN_FAILURE,
    "expired": Kind.UNEXECUTED,
}


def line(index: int, shape: str = "success", chunk_id: uuid.UUID = CHUNK) -> bytes:
    return json.dumps({"id": "b", "custom_id": wire_id(chunk_id, index), **SHAPES[shape]}).encode()


def reconciliation(requests: int) -> Reconciliation:
    return Reconciliation(locate([Part(CHUNK, 0, requests)]), requests)


@st.composite
def endings(draw: st.DrawFn) -> tuple[list[str | None], list[bytes], list[bytes]]:
    """What became of each position, and the two files that say so: shuffled, doubled, with foreign lines."""
    shapes = draw(st.lists(st.sampled_from([None, *SHAPES]), min_size=1, max_size=30))
    said = [(index, shape) for index, shape in enumerate(shapes) if shape]
    output = [line(index, shape) for index, shape in said if shape == "success"]
    errors = [line(index, shape) for index, shape in said if shape != "success"]
    chance = random.Random(draw(st.integers()))
    for file in (output, errors):
        file.extend(chance.sample(file, len(file) // 3))
        file.extend([line(len(shapes) + 5), line(0, chunk_id=uuid.UUID(int=9)), b"", b"not json", b'{"custom_id":7}'])
        chance.shuffle(file)
    return shapes, output, errors


def test_an_integer_longer_than_python_reads_beside_half_a_pair_is_no_reason_to_pay_again() -> None:
    line = b'{"custom_id":"x","response":{"status_code":200,"body":{"n":%b,"t":"\\ud83d"}}}' % (b"9" * 5000)
    read = read_line(line)
    assert read is not None
    assert kind_of(read) is Kind.SUCCESS


@given(endings())
def test_output_error_and_missing_lines_are_disjoint_and_together_the_batch(
    ending: tuple[list[str | None], list[bytes], list[bytes]],
) -> None:
    shapes, output, errors = ending
    found = reconciliation(len(shapes))
    found.read(0, 0, output)
    found.read(1, 0, errors)
    assert [Kind(kind) for kind in found.kinds] == [KINDS[shape] if shape else Kind.MISSING for shape in shapes]
    assert found.missing == shapes.count(None)
    assert (found.unknown, found.unreadable) == (4, 4)
    outcomes = decide(found.kinds, [0] * len(shapes), 4, [False] * len(shapes)).outcomes
    assert all(
        (Outcome(outcome) in FROM_FILE) == (shape in ("success", "refused"))
        for outcome, shape in zip(outcomes, shapes, strict=True)
    )


@given(endings(), st.lists(st.integers(1, 400), max_size=5))
def test_a_line_is_found_again_where_it_lies(
    ending: tuple[list[str | None], list[bytes], list[bytes]], sizes: list[int]
) -> None:
    shapes, output, errors = ending
    files = [b"\n".join(output) + b"\n", b"\n".join(errors) + b"\n"]
    found = reconciliation(len(shapes))
    for file, lines in enumerate((output, errors)):
        start, rest = 0, lines
        for size in sizes:  # lines arrive in blocks of any number
            start = found.read(file, start, rest[:size])
            rest = rest[size:]
        assert found.read(file, start, rest) == len(files[file])
    for position, shape in enumerate(shapes):
        place = found.found(position)
        if shape is None:
            assert place is None
        else:
            assert place is not None
            assert files[place.file][place.start : place.start + place.length] == line(position, shape)


def test_a_success_wins_over_an_error_in_either_order() -> None:
    for shapes in (["broken", "success"], ["success", "broken"], ["expired", "success", "refused"]):
        found = reconciliation(1)
        found.read(0, 0, [line(0, shape) for shape in shapes])
        assert found.kinds[0] == Kind.SUCCESS
        assert found.repeated == len(shapes) - 1


def test_the_first_line_of_a_kind_wins() -> None:
    found = reconciliation(1)
    found.read(0, 0, [line(0, "refused"), line(0, "broken")])
    found.read(1, 0, [line(0, "expired")])
    assert found.found(0) == Found(0, 0, len(line(0, "refused")))
    assert (found.kinds[0], found.repeated) == (Kind.FINAL_ERROR, 2)


def test_ids_beside_the_parts_of_the_batch_are_unknown() -> None:
    parts = [Part(CHUNK, 10, 5), Part(CHUNK, 2, 3)]
    found = Reconciliation(locate(parts), 8)
    assert [found.position(wire_id(CHUNK, index)) for index in (10, 14, 2, 4)] == [0, 4, 5, 7]
    assert [found.position(wire_id(CHUNK, index)) for index in (1, 5, 9, 15)] == [None] * 4
    assert found.position("request-1") is None


def test_half_a_surrogate_pair_in_an_answer_is_legal_json() -> None:
    answer = b'{"custom_id":"%b","response":{"status_code":200,"body":{"t":"\\ud83d"}}}' % wire_id(CHUNK, 0).encode()
    found = reconciliation(1)
    found.read(0, 0, [answer])
    assert (found.kinds[0], found.unreadable) == (Kind.SUCCESS, 0)


@pytest.mark.parametrize(
    ("rest", "kind"),
    [
        ({"response": {"status_code": 200}}, Kind.SUCCESS),
        ({"response": {"status_code": 299}, "error": {"code": "x"}}, Kind.SUCCESS),
        ({"response": {"status_code": 400}}, Kind.FINAL_ERROR),
        ({"response": {"status_code": 401}}, Kind.FINAL_ERROR),
        ({"response": {"status_code": 404}}, Kind.FINAL_ERROR),
        ({"response": {"status_code": 422}}, Kind.FINAL_ERROR),
        ({"response": {"status_code": 302}}, Kind.FINAL_ERROR),
        ({"response": {"status_code": 0}}, Kind.OWN_FAILURE),
        ({"response": {"status_code": 0}, "error": {"code": "batch_expired"}}, Kind.UNEXECUTED),
        ({"response": {}, "error": {"code": "batch_expired"}}, Kind.UNEXECUTED),
        ({"response": {"status_code": 200}, "error": {"code": "batch_expired"}}, Kind.SUCCESS),
        ({"response": {}}, Kind.OWN_FAILURE),
        ({"response": {"status_code": None}}, Kind.OWN_FAILURE),
        ({"response": {"status_code": 408}}, Kind.OWN_FAILURE),
        ({"response": {"status_code": 409}}, Kind.OWN_FAILURE),
        ({"response": {"status_code": 429}}, Kind.OWN_FAILURE),
        ({"response": {"status_code": 503}}, Kind.OWN_FAILURE),
        ({"response": None, "error": {"code": "batch_expired"}}, Kind.UNEXECUTED),
        ({"response": None, "error": {"code": "batch_cancelled"}}, Kind.UNEXECUTED),
        ({"error": {"code": "request_timeout"}}, Kind.UNEXECUTED),
        ({"error": {"code": "something"}}, Kind.OWN_FAILURE),
        ({"error": {"code": 429}}, Kind.OWN_FAILURE),
        ({"error": {"code": None}}, Kind.OWN_FAILURE),
        ({}, Kind.OWN_FAILURE),
    ],
)
def test_what_a_line_says_of_its_request(rest: dict[str, Any], kind: Kind) -> None:
    found = reconciliation(1)
    found.read(0, 0, [json.dumps({"custom_id": wire_id(CHUNK, 0), **rest}).encode()])
    assert found.kinds[0] == kind


BODY = {"error": {"code": "bad"}}


@pytest.mark.outcome("line-odd-types")
@pytest.mark.parametrize(
    ("rest", "kind"),
    [
        ({"response": {"status_code": 400, "body": BODY}, "error": "text"}, Kind.FINAL_ERROR),
        ({"response": {"status_code": 200}, "error": ""}, Kind.SUCCESS),
        ({"response": {"status_code": 200}, "error": []}, Kind.SUCCESS),
        ({"response": {"status_code": 200}, "error": {"code": ["x"]}}, Kind.SUCCESS),
        ({"response": {"status_code": "200"}}, Kind.SUCCESS),
        ({"response": {"body": {"choices": []}}}, Kind.SUCCESS),
        ({"response": {"body": {"choices": []}}, "error": {"message": "x"}}, Kind.OWN_FAILURE),
        ({"response": {"body": {"error": "x"}}}, Kind.OWN_FAILURE),
        ({"response": {"body": {}}}, Kind.OWN_FAILURE),
        ({"response": {"status_code": 200.0}, "error": "text"}, Kind.SUCCESS),
        ({"response": {"status_code": "429"}}, Kind.OWN_FAILURE),
        ({"response": {"status_code": "no number"}}, Kind.OWN_FAILURE),
        ({"response": {"status_code": True}}, Kind.OWN_FAILURE),
        ({"response": None, "error": "batch_expired"}, Kind.UNEXECUTED),
        ({"response": "", "error": {"code": "batch_expired"}}, Kind.UNEXECUTED),
        ({"response": None, "error": "text"}, Kind.OWN_FAILURE),
        ({"response": [{"status_code": 200}]}, Kind.UNREADABLE),
        ({"response": "a text"}, Kind.UNREADABLE),
        ({"response": 200}, Kind.UNREADABLE),
    ],
)
def test_one_unexpected_type_discards_no_line_that_was_paid_for(rest: dict[str, Any], kind: Kind) -> None:
    found = reconciliation(1)
    written = json.dumps({"custom_id": wire_id(CHUNK, 0), **rest}).encode()
    found.read(0, 0, [written])
    assert found.kinds[0] == kind
    assert found.unreadable == (kind is Kind.UNREADABLE)
    if kind is not Kind.UNREADABLE:
        published = json.loads(result_value(written, "theirs"))
        assert published == {"id": None, "response": None, "error": None, **rest, "custom_id": "theirs"}


@pytest.mark.outcome("line-unreadable")
def test_a_line_that_is_cut_or_spoilt_still_names_its_request_and_a_readable_one_wins_over_it() -> None:
    whole = line(0)
    for spoilt in (whole[:-20], whole.replace(b'"x"', b'"\xff"')):
        for lines in ([spoilt, whole], [whole, spoilt]):
            found = reconciliation(2)
            found.read(0, 0, [spoilt])
            assert (found.kinds[0], found.unreadable, found.nameless) == (Kind.UNREADABLE, 1, 0)
            found = reconciliation(2)
            found.read(0, 0, lines)
            assert found.found(0) == Found(0, len(lines[0]) + 1 if lines[1] is whole else 0, len(whole))
            assert found.kinds[0] == Kind.SUCCESS


def test_what_a_text_inside_an_answer_calls_a_custom_id_names_nobody() -> None:
    text = json.dumps({"custom_id": wire_id(CHUNK, 0)})
    assert name_in(json.dumps({"response": {"body": text}}).encode()) is None
    assert name_in(b'{"custom_id": "%b", "resp' % wire_id(CHUNK, 3).encode()) == wire_id(CHUNK, 3)


@pytest.mark.outcome("line-nameless")
@pytest.mark.parametrize(
    "nameless", [b'{"custom_id":null,"response":{"status_code":200}}', b'{"custom_id":7}', b'{"id":"b"}', b'{"cust']
)
def test_what_is_missing_beside_as_many_lines_that_name_nobody_is_unreadable(nameless: bytes) -> None:
    """Off: it was executed and paid for, and goes again as if it had not been, until its deadline."""
    found = reconciliation(3)
    found.read(0, 0, [line(0), nameless])
    assert found.judged() == bytes(found.kinds), "two are missing, and one line may be of either"
    found.read(1, 0, [nameless])
    judged = found.judged()
    assert judged == bytes([Kind.SUCCESS, Kind.UNREADABLE, Kind.UNREADABLE]), "they are paid for without end"
    outcomes = decide(judged, [0] * 3, 4, [False] * 3, given_up={1}).outcomes
    assert list(outcomes) == [Outcome.OUTPUT, Outcome.UNREADABLE, Outcome.RESEND]
    assert found.nameless_at == Found(0, len(line(0)) + 1, len(nameless))


@pytest.mark.outcome("line-odd-types")
def test_an_answer_nested_deeper_than_anybody_reads_is_unreadable_and_no_reason_to_pay_again() -> None:
    deep = b'{"custom_id":"%b","response":{"status_code":200,"body":%b}}' % (
        wire_id(CHUNK, 0).encode(),
        b"[" * 100_000 + b"]" * 100_000,
    )
    found = reconciliation(1)
    found.read(0, 0, [deep])
    assert (found.kinds[0], found.unreadable) == (Kind.UNREADABLE, 1)


@pytest.mark.outcome("line-odd-types")
def test_a_byte_order_mark_at_the_head_of_a_file_belongs_to_no_line() -> None:
    line = json.dumps({"custom_id": wire_id(CHUNK, 0), "response": {"status_code": 200}}).encode()
    found = reconciliation(1)
    found.read(0, 0, [b"\xef\xbb\xbf" + line])
    assert (found.kinds[0], found.found(0)) == (Kind.SUCCESS, Found(0, 3, len(line)))


def test_lines_of_other_batches_are_no_sign_that_what_is_missing_was_executed() -> None:
    found = reconciliation(1)
    found.read(0, 0, [line(0, chunk_id=uuid.UUID(int=9))])
    assert found.judged() == bytes([Kind.MISSING])


def test_a_decision_with_an_outcome_that_older_versions_do_not_know_has_a_format_that_they_leave_alone() -> None:
    old = decide(bytes([Kind.UNREADABLE]), [0], 4, [False])
    new = decide(bytes([Kind.UNREADABLE]), [0], 4, [False], given_up={0})
    assert (old.format, new.format) == (FORMAT, FORMAT_UNREADABLE)
    assert decode_decision(encode_decision(new)) == new


@pytest.mark.parametrize(
    ("kind", "attempt", "expired", "outcome"),
    [
        (Kind.SUCCESS, 3, True, Outcome.OUTPUT),
        (Kind.FINAL_ERROR, 0, False, Outcome.ERROR),
        (Kind.FINAL_ERROR, 0, True, Outcome.ERROR),
        (Kind.OWN_FAILURE, 0, False, Outcome.RETRY),
        (Kind.OWN_FAILURE, 2, False, Outcome.RETRY),
        (Kind.OWN_FAILURE, 3, False, Outcome.EXHAUSTED),
        (Kind.OWN_FAILURE, 3, True, Outcome.EXHAUSTED),
        (Kind.OWN_FAILURE, 0, True, Outcome.DEADLINE),
        (Kind.UNEXECUTED, 9, False, Outcome.RESEND),
        (Kind.UNEXECUTED, 0, True, Outcome.DEADLINE),
        (Kind.MISSING, 9, False, Outcome.RESEND),
        (Kind.MISSING, 0, True, Outcome.DEADLINE),
        (Kind.UNREADABLE, 0, False, Outcome.RESEND),
        (Kind.UNREADABLE, 0, True, Outcome.DEADLINE),
    ],
)
def test_each_kind_has_its_outcome(kind: Kind, attempt: int, expired: bool, outcome: Outcome) -> None:
    assert decide(bytes([kind]), [attempt], 4, [expired]).outcomes == bytes([outcome])


@given(st.lists(st.tuples(st.sampled_from(Kind), st.integers(0, 9), st.booleans()), max_size=20))
def test_every_position_is_either_answered_or_tried_again(given_: list[tuple[Kind, int, bool]]) -> None:
    decision = decide(
        bytes(kind for kind, _, _ in given_), [each for _, each, _ in given_], 4, [each for _, _, each in given_]
    )
    again = sum(decision.outcomes.count(outcome) for outcome in (Outcome.RETRY, Outcome.RESEND))
    assert decision.finals + again == len(given_)
    assert set(Outcome) - FINAL == {Outcome.RETRY, Outcome.RESEND, Outcome.ANSWERED}


def test_what_is_answered_is_neither_tried_again_nor_answered_otherwise() -> None:
    kinds = bytes([Kind.SUCCESS, Kind.FINAL_ERROR, Kind.OWN_FAILURE, Kind.UNEXECUTED, Kind.MISSING])
    decision = decide(kinds, [9] * 5, 4, [True] * 5, answered=range(5))
    assert list(decision.outcomes) == [Outcome.OUTPUT, Outcome.ERROR, *[Outcome.ANSWERED] * 3]
    assert decision.finals == 2, "what came all the same is left out when it is published"


def test_lines_that_a_second_download_lacks_are_named() -> None:
    outcomes = bytes([Outcome.OUTPUT, Outcome.OUTPUT, Outcome.ERROR, Outcome.EXHAUSTED, Outcome.RETRY, Outcome.VERDICT])
    same = bytes([Kind.SUCCESS, Kind.SUCCESS, Kind.FINAL_ERROR, Kind.OWN_FAILURE, Kind.MISSING, Kind.MISSING])
    assert unsupported(outcomes, same, 0) == []
    gone = bytes([Kind.MISSING, Kind.UNEXECUTED, Kind.SUCCESS, Kind.MISSING, Kind.MISSING, Kind.MISSING])
    assert unsupported(outcomes, gone, 0) == [0, 1, 2, 3]
    assert unsupported(outcomes, gone, 2) == [2, 3]


@given(st.binary(max_size=50), st.text(max_size=5))
def test_a_decision_reads_back(outcomes: bytes, code: str) -> None:
    decision = Decision(FORMAT, outcomes, code, "why")
    assert decode_decision(encode_decision(decision)) == decision


@pytest.mark.parametrize("stored", [[3, b""], [3, {"by": "name"}], [], {"format": 1}, "later"])
def test_a_decision_of_another_format_is_left_alone(stored: object) -> None:
    with pytest.raises(UnknownFormat):
        decode_decision(zstandard.ZstdCompressor().compress(msgspec.msgpack.encode(stored)))


def test_an_answer_that_is_not_utf_8_is_no_line_wherever_it_is_spoilt() -> None:
    """Msgspec skips over the answer's body, and would not notice."""
    line = b'{"custom_id":"a","response":{"status_code":200,"body":{"text":"whole"}},"error":null}'
    assert read_line(line) is not None
    for place in range(len(line)):
        spoilt = bytearray(line)
        spoilt[place] ^= 0xFF
        assert read_line(bytes(spoilt)) is None
