"""What the provider can make of a batch, and what becomes of its requests: one service, a lane for each case."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from itertools import chain
from typing import Any

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import WAIT_SECONDS, open_bridge
from tests.support.conversation import Conversation, chats
from tests.support.live_reader import Received
from tests.support.request import chat

LANES = """
[defaults]
age_max_seconds = 0.3
attempts_max = 3
retry_min_seconds = 0.1
retry_max_seconds = 0.3

[[lane]]
model = "patient"
age_max_seconds = 3
"""
GONE_SECONDS = 1
RETRY_SECONDS = 0.1


@pytest.fixture(scope="module")
async def talk(
    kafka: EmbeddedKafka,
    postgres: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
    defences_off: tuple[str, ...],
) -> AsyncIterator[Conversation]:
    folder = tmp_path_factory.mktemp("outcomes")
    settings: dict[str, Any] = {
        "intake_linger_seconds": 0.2,
        "poller_cancel_grace_seconds": 0.5,
        "poller_stuck_grace_seconds": 0,
        "poller_unmoved_seconds": 1,
        "publisher_file_gone_seconds": GONE_SECONDS,
    }
    async with (
        open_bridge(kafka, postgres, folder, partitions=1, lanes=LANES, defences_off=defences_off) as bridge,
        bridge.service(**settings) as service,
    ):
        yield Conversation(bridge, service)


def fault(model: str, times: int = 1, **batch: Any) -> list[dict[str, Any]]:
    """A rule for the first batches of a lane."""
    return [{"when": {"model": model}, "times": times, "batch": batch}]


def statuses(answers: Iterable[Received]) -> Counter[tuple[int, str]]:
    """How many answers have which HTTP status, at which attempt."""
    return Counter((each.json["response"]["status_code"], each.header("penstock-attempt")) for each in answers)


def errors(answers: Iterable[Received]) -> list[str | None]:
    """The error code of each answer; None for a success."""
    return [each.json["error"] and each.json["error"]["code"] for each in answers]


@pytest.mark.defence("growing_wait")
@pytest.mark.outcome("status-0", "line-429", "line-5xx")
async def test_what_failed_by_the_providers_fault_is_tried_again(talk: Conversation) -> None:
    codes = (429, 500, 0)
    rules = [fault(f"flaky-{code}", lines=[{"count": 4, "status_code": code}]) for code in codes]
    await talk.bridge.simulator.faults([*chain(*rules)])
    for answers in await asyncio.gather(*(talk.ask(chats(f"flaky-{code}", 10)) for code in codes)):
        assert statuses(answers) == {(200, "1"): 6, (200, "2"): 4}
    waits = await talk.bridge.sql("SELECT not_before - created_at AS wait FROM chunk WHERE attempt = 1")
    assert min(each["wait"].total_seconds() for each in waits) >= RETRY_SECONDS / 2, "they went again at once"
    await talk.check()


@pytest.mark.outcome("attempts-used-up")
async def test_the_providers_error_is_the_answer_when_every_attempt_failed(talk: Conversation) -> None:
    await talk.bridge.simulator.faults(fault("broken", times=9, lines=[{"status_code": 503}]))
    answers = await talk.ask(chats("broken", 3))
    assert statuses(answers) == {(503, "3"): 3}
    assert await talk.creates("broken") == 3
    assert await talk.service.metric("penstock_results_published_total", outcome="exhausted") >= 3
    await talk.check()


@pytest.mark.outcome("line-4xx", "all-failed", "failed-lines")
async def test_an_error_of_the_request_itself_is_its_answer_at_once(talk: Conversation) -> None:
    codes = (400, 401, 403, 404, 422)
    await talk.bridge.simulator.faults(fault("wrong", lines=[{"count": 1, "status_code": code} for code in codes]))
    answers = await talk.ask(chats("wrong", 6))
    assert statuses(answers) == {(code, "1"): 1 for code in (200, *codes)}
    await talk.bridge.simulator.faults(fault("all-wrong", lines=[{"status_code": 400}]))
    assert statuses(await talk.ask(chats("all-wrong", 3))) == {(400, "1"): 3}, "there is no output file"
    assert (await talk.creates("wrong"), await talk.creates("all-wrong")) == (1, 1)
    await talk.check()


@pytest.mark.defence("probes")
@pytest.mark.outcome("line-5xx")
async def test_a_lane_that_the_provider_fails_sends_a_small_probe_first(talk: Conversation) -> None:
    await talk.bridge.simulator.faults(fault("ill", lines=[{"status_code": 500}]))
    answers = await talk.ask(chats("ill", 250))
    assert statuses(answers) == {(200, "2"): 250}
    assert [each["requests"] for each in await talk.batches("ill")] == [250, 100, 150]
    await talk.check()


@pytest.mark.defence("unexecuted_attempt")
@pytest.mark.outcome("expired", "cancelled")
async def test_what_a_batch_finished_before_it_ended_early_is_kept_and_the_rest_goes_again(talk: Conversation) -> None:
    ends = ("expired", "cancelled")
    await talk.bridge.simulator.faults([*chain(*(fault(end, end=end, done_fraction=0.4) for end in ends))])
    for end, answers in zip(ends, await asyncio.gather(*(talk.ask(chats(end, 10)) for end in ends)), strict=True):
        assert statuses(answers) == {(200, "1"): 10}, "what was never executed has not failed"
        of_batch = Counter(each.header("penstock-batch-id") for each in answers)
        assert [of_batch[each["id"].hex] for each in await talk.batches(end)] == [4, 6]
    await talk.check()


@pytest.mark.outcome("missing-line", "in-both-files", "line-twice", "unknown-custom-id", "body-as-string")
async def test_each_request_has_one_answer_whatever_the_files_hold(talk: Conversation) -> None:
    defects = ("missing", "in_both_files", "twice", "unknown_custom_id", "body_as_string")
    await talk.bridge.simulator.faults(fault("odd", lines=[{"count": 2, "defect": each} for each in defects]))
    answers = await talk.ask(chats("odd", 12))
    assert statuses(answers) == {(200, "1"): 12}
    unmatched = "penstock_provider_lines_unmatched_total"
    assert await talk.service.metric(unmatched, kind="unknown") >= 2
    assert await talk.service.metric(unmatched, kind="repeated") >= 4
    assert await talk.service.metric("penstock_duplicate_executions_total", cause="unreadable") == 2, (
        "as many lines name nobody: what is missing was executed"
    )
    await talk.check(paid_twice=2)


@pytest.mark.outcome("line-odd-types")
async def test_a_line_of_unexpected_types_is_its_requests_result_and_is_paid_for_once(talk: Conversation) -> None:
    lines = [
        {"count": 2, "status_code": 400, "written": {"error": "text"}},
        {"count": 2, "written": {"error": ""}},
        {"count": 2, "written": {"response.status_code": "200"}},
    ]
    await talk.bridge.simulator.faults(fault("loose", times=9, lines=lines))
    answers = await talk.ask(chats("loose", 8))
    assert statuses(answers) == {(400, "1"): 2, (200, "1"): 4, ("200", "1"): 2}
    assert Counter(each.json["error"] for each in answers) == {"text": 2, "": 2, None: 4}
    assert await talk.creates("loose") == 1
    await talk.check()


@pytest.mark.defence("unreadable_bound")
@pytest.mark.outcome("line-unreadable", "line-nameless")
async def test_a_result_that_nobody_can_read_is_paid_for_twice_and_then_answered_so(talk: Conversation) -> None:
    """Off: it is executed again until its deadline."""
    lines = [{"count": 1, "defect": "cut"}, {"count": 1, "written": {"response": []}}]
    nameless = [{"count": 2, "written": {"custom_id": None}}]
    before = await talk.service.metric("penstock_results_unreadable_total")
    rules = [*fault("cut", times=2, lines=lines), *fault("nobody", times=2, lines=nameless)]
    await talk.bridge.simulator.faults(rules)
    found = await asyncio.gather(*(talk.ask(chats(model, 2)) for model in ("cut", "nobody")))
    for model, answers in zip(("cut", "nobody"), found, strict=True):
        assert errors(answers) == ["unreadable_result"] * 2, "it is paid for without end"
        assert await talk.creates(model) == 2
        _, last = await talk.batches(model)
        assert all(last["output_file_id"] in each.json["error"]["message"] for each in answers)
        assert last["files_removed_at"] is not None, "the file that the error names goes with the others"
    assert await talk.service.metric("penstock_results_unreadable_total") == before + 8
    await talk.check(paid_twice=4)


ABSENT: dict[str, dict[str, Any]] = {
    "never-named": {"show": {"completed": {"output_file_id": None}}},
    "named-empty": {"show": {"completed": {"output_file_id": "", "error_file_id": ""}}},
    "vanished": {"vanished": ["output"]},
}


@pytest.mark.outcome("null-output", "empty-ids", "vanished-file")
async def test_an_output_file_that_never_comes_is_waited_for_and_then_its_lines_go_again(talk: Conversation) -> None:
    await talk.bridge.simulator.faults([*chain(*(fault(model, **batch) for model, batch in ABSENT.items()))])
    for answers in await asyncio.gather(*(talk.ask(chats(model, 5)) for model in ABSENT)):
        assert statuses(answers) == {(200, "1"): 5}
    for model in ABSENT:
        first, second = await talk.batches(model)
        assert (second["sealed_at"] - first["ended_at"]).total_seconds() >= GONE_SECONDS
    await talk.check(paid_twice=5 * len(ABSENT))


@pytest.mark.outcome("unknown-status", "null-fields", "null-expiry")
async def test_unknown_statuses_empty_file_ids_and_null_fields_are_borne(talk: Conversation) -> None:
    show = {
        "in_progress": {"status": "quantum_leap", "output_file_id": "", "error_file_id": ""},
        "*": {"request_counts": None, "usage": None, "expires_at": None, "error_file_id": "", "errors": None},
    }
    await talk.bridge.simulator.faults(fault("vague", show=show, seconds={"in_progress": 2}))
    assert statuses(await talk.ask(chats("vague", 5))) == {(200, "1"): 5}
    assert await talk.service.metric("penstock_provider_statuses_unknown_total") >= 1
    assert len(talk.service.logs("status.unknown")) == 1
    await talk.check()


@pytest.mark.outcome("list-never-moves")
async def test_a_list_that_is_stale_for_good_holds_nothing_up_and_is_told_once(talk: Conversation) -> None:
    await talk.bridge.simulator.faults([{"operation": "batches.list", "http": {"listed_status": "validating"}}])
    models = ("listed-1", "listed-2", "listed-3")
    for answers in await asyncio.gather(*(talk.ask(chats(model, 3)) for model in models)):
        assert statuses(answers) == {(200, "1"): 3}
    assert len(talk.service.logs("list.stale")) == 1
    await talk.check()


@pytest.mark.outcome("cancel-refused")
async def test_a_batch_whose_cancel_is_refused_is_given_up_and_goes_again(talk: Conversation) -> None:
    stuck = fault("kept", show={"*": {"expires_at": 1}}, seconds={"in_progress": 3600})
    await talk.bridge.simulator.faults([{"operation": "batches.cancel", "http": {"status": 405}}, *stuck])
    answers = await talk.ask(chats("kept", 2))
    assert statuses(answers) == {(200, "1"): 2}
    given_up, again = await talk.batches("kept")
    assert given_up["abandoned_at"]
    assert not again["abandoned_at"]
    await talk.bridge.simulator.faults([])
    await talk.bridge.sql("UPDATE batch SET cancel = 'again' WHERE id = $1", given_up["id"])
    await talk.check(paid_twice=0)


@pytest.mark.outcome("retrieve-never", "cancel-lost")
async def test_a_batch_that_can_never_be_retrieved_is_given_up_and_goes_again(talk: Conversation) -> None:
    simulator, models = talk.bridge.simulator, ("outlasted", "called-off")
    overdue = fault("outlasted", show={"*": {"expires_at": 1}}, seconds={"in_progress": 3600})
    called_off = fault("called-off", seconds={"in_progress": 3600})
    await simulator.faults(
        [
            {"operation": "batches.retrieve", "http": {"status": 500}},
            *overdue,
            *called_off,
            *fault("idle", stuck="validating"),
        ]
    )
    await talk.bridge.produce([each for model in (*models, "idle") for each in chats(model, 2)])
    cancel = """
        UPDATE batch AS b SET cancel = 'again', cancel_asked_at = clock_timestamp() FROM lane AS l
        WHERE l.id = b.lane_id AND l.model = 'called-off' AND b.state = 'submitted' AND b.cancel IS NULL
    """
    async with asyncio.timeout(WAIT_SECONDS):
        given_up: set[str] = set()
        while given_up < set(models):
            await talk.bridge.sql(cancel)
            given_up = {model for model in models for each in await talk.batches(model) if each["abandoned_at"]}
            await asyncio.sleep(0.1)
    await simulator.faults([])
    answers = await talk.answers([f"{model}-{number}" for model in models for number in range(2)])
    assert statuses(answers) == {(200, "1"): 4}
    await talk.bridge.sql(cancel.replace("called-off", "idle"))
    await talk.answers(["idle-0", "idle-1"])
    await talk.check()


@pytest.mark.outcome("status-spelling")
async def test_statuses_and_times_in_another_spelling_are_read(talk: Conversation) -> None:
    show = {
        "*": {"created_at": "2026-01-02T03:04:05Z", "expires_at": "2999-01-02T03:04:05Z"},
        "in_progress": {"status": "In-Progress"},
        "completed": {"status": "COMPLETED"},
        "cancelled": {"status": "Canceled"},
    }
    completed, cancelled = fault("spelled", show=show), fault("canceled", show=show, end="cancelled")
    await talk.bridge.simulator.faults([*completed, *cancelled])
    answers = await asyncio.gather(*(talk.ask(chats(model, 4)) for model in ("spelled", "canceled")))
    assert [statuses(each) for each in answers] == [{(200, "1"): 4}] * 2
    (row,) = await talk.batches("spelled")
    assert (row["provider_status"], row["expires_at"].year) == ("completed", 2999)
    await talk.check()


@pytest.mark.outcome("refused-one-line")
async def test_a_line_refused_at_validation_is_answered_and_the_others_go_again(talk: Conversation) -> None:
    failure = {"code": "invalid_request", "message": "Line 3 is bad.", "param": "body.model", "line": 3}
    await talk.bridge.simulator.faults(fault("refused", end="failed", failure=failure))
    answers = await talk.ask(chats("refused", 5))
    assert errors(answers) == [None, None, "invalid_request", None, None]
    assert answers[2].json["error"]["message"] == "Line 3 is bad."
    assert await talk.creates("refused") == 2
    await talk.check()


@pytest.mark.outcome("code-model-not-found")
async def test_a_fault_that_all_lines_share_answers_all_of_them(talk: Conversation) -> None:
    failure = {"code": "model_not_found", "line": 1}
    await talk.bridge.simulator.faults(fault("nowhere", end="failed", failure=failure))
    answers = await talk.ask(chats("nowhere", 4))
    assert errors(answers) == ["model_not_found"] * 4
    assert await talk.creates("nowhere") == 1
    await talk.check()


@pytest.mark.outcome("cannot-find-file-async")
async def test_a_refusal_that_names_no_line_is_tried_again(talk: Conversation) -> None:
    await talk.bridge.simulator.faults(fault("moody", 2, end="failed", failure={"code": "invalid_request"}))
    assert statuses(await talk.ask(chats("moody", 4), hurry=True)) == {(200, "1"): 4}
    assert await talk.creates("moody") == 3
    files = {each["input_file_id"] for each in talk.bridge.simulator.journal() if each["event"] == "batch.created"}
    assert len(files & {each["file_id"] for each in await talk.batches("moody")}) == 1
    await talk.check()


@pytest.mark.outcome("stuck-in-progress", "stuck-cancelling")
async def test_a_batch_that_never_ends_is_cancelled_and_then_given_up(talk: Conversation) -> None:
    overdue: dict[str, Any] = {"show": {"*": {"expires_at": 1}}, "seconds": {"in_progress": 3600}}
    gives_way, stays = fault("slow", **overdue, done_fraction=0.5), fault("stuck", **overdue, stuck="cancelling")
    await talk.bridge.simulator.faults([*gives_way, *stays])
    earlier = {each["batch"] for each in talk.service.logs("batch.abandoned")}
    before = await talk.service.metric("penstock_duplicate_executions_total", cause="abandoned")
    slow, stuck = await asyncio.gather(talk.ask(chats("slow", 4)), talk.ask(chats("stuck", 4)))
    assert statuses(slow) == statuses(stuck) == {(200, "1"): 4}
    given_up = {each["batch"] for each in talk.service.logs("batch.abandoned")} - earlier
    assert given_up == {str((await talk.batches("stuck"))[0]["id"])}
    assert await talk.service.metric("penstock_duplicate_executions_total", cause="abandoned") == before + 4
    await talk.check()


@pytest.mark.outcome("retrieve-fails")
async def test_a_batch_that_cannot_be_retrieved_keeps_no_other_from_being_seen(talk: Conversation) -> None:
    simulator = talk.bridge.simulator
    await simulator.faults(fault("hidden", seconds={"in_progress": 3600}))
    await talk.bridge.produce(chats("hidden", 2))
    async with asyncio.timeout(WAIT_SECONDS):
        while not (batches := await talk.batches("hidden")) or batches[0]["provider_batch_id"] is None:
            await asyncio.sleep(0.05)
    path = f"*/{batches[0]['provider_batch_id']}"
    stale = {"operation": "batches.list", "http": {"hide_newer_than_seconds": 3600}}
    broken = {"operation": "batches.retrieve", "when": {"path": path}, "http": {"status": 500}}
    await simulator.faults([stale, broken])
    assert statuses(await talk.ask(chats("visible", 2))) == {(200, "1"): 2}
    await simulator.faults([])
    client = simulator.client()
    await client.batches.cancel(batches[0]["provider_batch_id"])
    await client.close()
    assert statuses(await talk.answers(["hidden-0", "hidden-1"])) == {(200, "1"): 2}
    await talk.check()


async def test_what_waits_past_its_deadline_is_answered_so_and_the_others_of_its_window_go(talk: Conversation) -> None:
    lines = chats("patient", 6)
    await talk.bridge.produce(lines[:2])
    await talk.bridge.produce(lines[2:4], headers=[("penstock-deadline-seconds", b"0.5")])
    await talk.bridge.produce(lines[4:])
    answers = await talk.answers([each["custom_id"] for each in lines])
    assert errors(answers) == [None, None, "deadline_exceeded", "deadline_exceeded", None, None]
    await talk.check()


async def test_no_further_attempt_starts_past_the_deadline(talk: Conversation) -> None:
    await talk.bridge.simulator.faults(fault("late", lines=[{"status_code": 500}], seconds={"in_progress": 6}))
    answers = await talk.ask(chats("late", 2), headers=[("penstock-deadline-seconds", b"6")])
    assert errors(answers) == ["deadline_exceeded"] * 2
    assert await talk.creates("late") == 1
    await talk.check()


@pytest.mark.outcome("code-duplicate-custom-id")
async def test_a_fault_of_our_own_halts_the_lane_and_no_other(talk: Conversation) -> None:
    failure = {"code": "duplicate_custom_id", "line": 2}
    await talk.bridge.simulator.faults(fault("ours", end="failed", failure=failure))
    await talk.bridge.produce(chats("ours", 3))
    halted = await talk.service.logged("lane.halted")
    assert (halted["code"], halted["level"]) == ("duplicate_custom_id", "error")
    more = [chat(f"more-{number}", model="ours") for number in range(3)]
    await talk.bridge.produce(more)
    assert statuses(await talk.ask(chats("healthy", 3))) == {(200, "1"): 3}
    late = [chat(f"overdue-{number}", model="ours") for number in range(2)]
    assert errors(await talk.ask(late, headers=[("penstock-deadline-seconds", b"1")])) == ["deadline_exceeded"] * 2
    assert await talk.creates("ours") == 1
    await talk.bridge.simulator.faults([])
    await talk.bridge.sql("UPDATE lane SET halted_reason = NULL WHERE model = 'ours'")
    await talk.answers([each["custom_id"] for each in [*chats("ours", 3), *more]])
    await talk.check()
