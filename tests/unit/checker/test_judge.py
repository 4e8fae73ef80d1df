import json
from collections.abc import Sequence
from hashlib import sha256

import pytest

from batchsim.answer import answer, request_digest, request_id
from tests.checker.expectation import Message, Output, one_line
from tests.checker.judge import Judge
from tests.checker.report import Kind, Report

SOURCE = "cluster/0123456789abcdef0123456789abcdef"
CHAT = "/v1/chat/completions"


def message(offset: int, partition: int = 0, *, text: str | None = None, custom_id: str | None = None) -> Message:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text or f"prompt {partition} {offset}"}]}
    line = {"custom_id": custom_id or f"mine-{partition}-{offset}", "url": CHAT, "body": body}
    return Message(SOURCE, partition, offset, b"key %d" % offset, json.dumps(line, indent=1).encode())


def body_of(source: Message) -> bytes:
    value = source.value or b""
    return one_line(value[value.index(b'"body": ') + 8 : value.rindex(b"\n}")])


def result_id(source: Message) -> str:
    return f"{source.source}/{source.partition}/{source.offset}"


def result(source: Message, *, of: Message | None = None, offset: int | None = None, **changes: object) -> Output:
    body = body_of(of or source)
    status_code, answered = answer(CHAT, body)
    response = {
        "status_code": status_code,
        "request_id": request_id(request_digest(CHAT, body)),
        "body": answered,
    }
    custom_id = json.loads(source.value or b"")["custom_id"]
    value = {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None, **changes}
    headers = [("x-mine", b"1"), ("penstock-result-id", result_id(source).encode())]
    place = source.offset if offset is None else offset
    return Output(False, "results", source.partition, place, source.key, json.dumps(value).encode(), headers)


def dead_letter(source: Message, code: str = "invalid_json", **changes: object) -> Output:
    headers = [
        ("penstock-result-id", result_id(source).encode()),
        ("penstock.error.code", code.encode()),
        ("penstock.origin.partition", str(source.partition).encode()),
        ("penstock.origin.offset", str(source.offset).encode()),
    ]
    output = Output(True, "dead-letters", 0, source.offset, source.key, source.value, headers)
    return output._replace(**changes)  # type: ignore[arg-type]


def judged(
    messages: Sequence[Message],
    committed: Sequence[Output],
    *,
    aborted: Sequence[Output] = (),
    executed: Sequence[Message] | None = None,
    seen: Sequence[str] = (),
    allowed: int = 0,
    canaries: Sequence[str] = (),
) -> Report:
    judge = Judge(canaries=canaries)
    for each in messages:
        judge.message(each)
    for output in committed:
        judge.committed(output)
    for output in aborted:
        judge.aborted(output)
    for each in messages if executed is None else executed:
        judge.executed(CHAT, sha256(body_of(each)).hexdigest(), 200)
    for one in seen:
        judge.saw(one)
    return judge.verdict(allowed)


def found(report: Report) -> dict[Kind, list[str]]:
    return {kind: violation.first for kind, violation in report.violations.items()}


FIRST, SECOND = message(0), message(3)
BOTH = [FIRST, SECOND]


def test_a_clean_run_passes() -> None:
    rejected = Message(SOURCE, 1, 7, None, b"\xff not a request")
    report = judged(
        [*BOTH, rejected],
        [result(SECOND), result(FIRST), dead_letter(rejected)],
        executed=BOTH,
        seen=[result_id(FIRST), result_id(SECOND)],
        canaries=["sesame"],
    )
    assert found(report) == {}
    assert report.clean
    assert (report.messages, report.results, report.dead_letters, report.executions) == (3, 2, 1, 2)
    assert report.statuses == {"200": 2}
    assert report.dead_letter_codes == {"invalid_json": 1}


def test_a_lost_message_is_named() -> None:
    assert found(judged(BOTH, [result(FIRST)])) == {Kind.LOST: [result_id(SECOND)]}


def test_a_message_whose_only_result_was_aborted_is_lost() -> None:
    report = judged(BOTH, [result(FIRST)], aborted=[result(SECOND)])
    assert found(report) == {Kind.LOST: [result_id(SECOND)]}
    assert report.aborted == 1


def test_an_aborted_copy_beside_the_committed_one_is_fine() -> None:
    assert judged(BOTH, [result(FIRST), result(SECOND)], aborted=[result(SECOND, offset=9)]).clean


def test_a_doubled_result_is_named() -> None:
    report = judged(BOTH, [result(FIRST), result(SECOND), result(FIRST, offset=9)])
    assert found(report) == {Kind.DOUBLED: [result_id(FIRST)]}


def test_a_result_beside_a_dead_letter_is_a_double() -> None:
    report = judged(BOTH, [result(FIRST), result(SECOND), dead_letter(FIRST)])
    assert found(report) == {Kind.DOUBLED: [result_id(FIRST)]}


@pytest.mark.parametrize("aborted", [False, True])
def test_a_crossed_result_is_named_even_if_aborted(aborted: bool) -> None:
    crossed = result(FIRST, of=SECOND)
    report = judged(BOTH, [result(SECOND), result(FIRST) if aborted else crossed], aborted=[crossed][: int(aborted)])
    assert found(report) == {Kind.CROSSED: [f"{result_id(FIRST)} at results/0/0"]}


def test_an_answer_with_the_right_id_and_another_body_is_crossed() -> None:
    right = json.loads(result(FIRST).value or b"")["response"]
    wrong = json.loads(result(SECOND).value or b"")["response"]
    report = judged([FIRST], [result(FIRST, response={**right, "body": wrong["body"]})])
    assert list(found(report)) == [Kind.CROSSED]


def test_a_value_that_is_no_result_is_crossed() -> None:
    assert list(found(judged([FIRST], [result(FIRST)._replace(value=b"[]")]))) == [Kind.CROSSED]


def test_a_failure_of_the_provider_must_name_its_own_request() -> None:
    own, other = (json.loads(result(each).value or b"")["response"]["request_id"] for each in BOTH)

    def failed(named: str) -> Output:
        body = {"error": {"message": f"Slow down (request ID {named})"}}
        return result(FIRST, response={"status_code": 429, "request_id": own, "body": body})

    assert judged([FIRST], [failed(own)], executed=[]).statuses == {"429": 1}
    assert list(found(judged([FIRST], [failed(other)], executed=[]))) == [Kind.CROSSED]


def test_a_body_told_as_a_text_is_held_against_its_message() -> None:
    def as_text(source: Message, of: Message) -> Output:
        response = json.loads(result(of).value or b"")["response"]
        return result(source, response={**response, "body": json.dumps(response["body"])})

    assert judged([FIRST], [as_text(FIRST, FIRST)]).clean
    assert list(found(judged([FIRST], [as_text(FIRST, SECOND)]))) == [Kind.CROSSED]


def test_errors_without_an_answer_are_counted_by_code() -> None:
    report = judged([FIRST], [result(FIRST, response=None, error={"code": "deadline_exceeded"})], executed=[])
    assert report.clean
    assert report.errors == {"deadline_exceeded": 1}


@pytest.mark.parametrize("identity", [b"cluster/0/0/0", f"{SOURCE}/0/1".encode(), b"", b"x/y", None])
def test_a_result_of_no_message_is_an_orphan(identity: bytes | None) -> None:
    orphan = result(FIRST, offset=5)._replace(headers=[("penstock-result-id", identity)])
    assert list(found(judged([FIRST], [result(FIRST), orphan]))) == [Kind.ORPHANED]


def test_a_result_without_an_id_is_an_orphan() -> None:
    report = judged([FIRST], [result(FIRST)._replace(headers=[])])
    assert set(found(report)) == {Kind.ORPHANED, Kind.LOST}


def test_changed_keys_and_custom_ids_are_named() -> None:
    assert list(found(judged([FIRST], [result(FIRST)._replace(key=b"other")]))) == [Kind.KEY_CHANGED]
    assert list(found(judged([FIRST], [result(FIRST)._replace(key=None)]))) == [Kind.KEY_CHANGED]
    assert list(found(judged([FIRST], [result(FIRST, custom_id="other")]))) == [Kind.CUSTOM_ID_CHANGED]


def test_a_dead_letter_keeps_the_bytes_and_the_origin() -> None:
    changed = dead_letter(FIRST, value=(FIRST.value or b"") + b" ")
    assert list(found(judged([FIRST], [changed], executed=[]))) == [Kind.DEAD_LETTER_CHANGED]
    headers = [(name, b"8" if name.endswith("offset") else value) for name, value in dead_letter(FIRST).headers]
    moved = dead_letter(FIRST, headers=headers)
    assert list(found(judged([FIRST], [moved], executed=[]))) == [Kind.DEAD_LETTER_CHANGED]


def test_a_truncated_dead_letter_is_known_by_its_digest() -> None:
    def cut(original: Message) -> Output:
        digest = sha256(original.value or b"").hexdigest().encode()
        headers = [*dead_letter(FIRST).headers, ("penstock.truncated.sha256", digest)]
        return dead_letter(FIRST, value=(FIRST.value or b"")[:10], headers=headers)

    assert judged([FIRST], [cut(FIRST)], executed=[]).clean
    assert list(found(judged([FIRST], [cut(SECOND)], executed=[]))) == [Kind.DEAD_LETTER_CHANGED]


def test_a_valid_request_may_be_written_anew_in_its_dead_letter_but_not_changed() -> None:
    code = "result_too_large"
    again = json.dumps(json.loads(FIRST.value or b"")).encode()
    assert judged([FIRST], [dead_letter(FIRST, code, value=again)]).clean
    assert list(found(judged([FIRST], [dead_letter(FIRST, code, value=SECOND.value)]))) == [Kind.DEAD_LETTER_CHANGED]
    assert list(found(judged([FIRST], [dead_letter(FIRST, code, value=body_of(FIRST))]))) == [Kind.DEAD_LETTER_CHANGED]


def test_another_dead_letter_keeps_its_bytes() -> None:
    again = json.dumps(json.loads(FIRST.value or b"")).encode()
    assert list(found(judged([FIRST], [dead_letter(FIRST, value=again)]))) == [Kind.DEAD_LETTER_CHANGED]


def test_what_a_reader_saw_must_be_there_at_the_end_and_once() -> None:
    report = judged(BOTH, [result(FIRST)], aborted=[result(SECOND)], seen=[result_id(each) for each in BOTH])
    assert found(report) == {Kind.LOST: [result_id(SECOND)], Kind.SEEN_AND_GONE: [result_id(SECOND)]}
    assert list(found(judged([FIRST], [result(FIRST)], seen=["elsewhere"]))) == [Kind.SEEN_AND_GONE]
    assert list(found(judged([FIRST], [result(FIRST)], seen=[result_id(FIRST)] * 3))) == [Kind.SEEN_TWICE]


def test_paid_executions_beyond_the_allowance_are_named() -> None:
    committed = [result(FIRST), result(SECOND)]
    executed = [FIRST, SECOND, FIRST, FIRST]
    report = judged(BOTH, committed, executed=executed, allowed=1)
    assert found(report) == {Kind.EXECUTED_TWICE: [result_id(FIRST)] * 2}
    assert report.extra_executions == 2
    assert judged(BOTH, committed, executed=executed, allowed=2).clean


def test_equal_bodies_of_two_messages_may_each_be_executed() -> None:
    twins = [message(0, text="same"), message(1, text="same")]
    outputs = [result(each) for each in twins]
    assert judged(twins, outputs).clean
    assert list(found(judged(twins, outputs, executed=[*twins, *twins]))) == [Kind.EXECUTED_TWICE]


def test_an_execution_that_nobody_asked_for_is_told() -> None:
    assert list(found(judged([FIRST], [result(FIRST)], executed=BOTH))) == [Kind.EXECUTED_UNASKED]


def test_unpaid_executions_do_not_count() -> None:
    judge = Judge()
    judge.message(FIRST)
    judge.committed(result(FIRST))
    for status_code in (429, 500, 200):
        judge.executed(CHAT, sha256(body_of(FIRST)).hexdigest(), status_code)
    assert judge.verdict().clean


def test_a_canary_in_a_header_is_told_without_being_repeated() -> None:
    output = result(FIRST)
    told = output._replace(headers=[*output.headers, ("x-note", b"open sesame now")])
    report = judged([FIRST], [told], canaries=["sesame"])
    assert list(found(report)) == [Kind.CANARY_TOLD]
    assert "sesame" not in report.as_text() + report.as_json()


def test_an_open_transaction_is_told() -> None:
    judge = Judge()
    judge.hangs("results/0")
    assert found(judge.verdict()) == {Kind.TRANSACTION_OPEN: ["results/0"]}


def test_the_report_names_twenty_and_counts_all() -> None:
    report = judged([message(offset) for offset in range(30)], [], executed=[])
    assert report.violations[Kind.LOST].count == 30
    assert len(report.violations[Kind.LOST].first) == 20
    assert json.loads(report.as_json())["clean"] is False
    assert "WRONG: 30 lost" in report.as_text()
    assert "prompt" not in report.as_text() + report.as_json()
