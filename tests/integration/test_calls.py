"""Calls that the provider refuses, loses, delays or answers wrongly. One service, a lane for each case."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from openai import ConflictError

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import WAIT_SECONDS, Bridge, open_bridge
from tests.support.command import penstock
from tests.support.conversation import Conversation, chats
from tests.support.request import chat

LANES = "[defaults]\nage_max_seconds = 0.3\nretry_min_seconds = 0.1\n"
TIMEOUT_SECONDS = 2.0
STALE_SECONDS = 2.0
SETTINGS: dict[str, Any] = {
    "intake_linger_seconds": 0.2,
    "poller_cancel_grace_seconds": 5,
    "poller_stuck_grace_seconds": 0,
    "provider_timeout_seconds": TIMEOUT_SECONDS,
    "publisher_file_gone_seconds": 1,
    "submitter_concurrency": 8,
    "submitter_look_up_seconds": 0.5,
    "submitter_settle_seconds": STALE_SECONDS,
}
MISSING_FILE: dict[str, Any] = {
    "status": 400,
    "message": "Cannot find file file-1, or project proj_1 does not have access to it.",
    "param": "file_id",
}
OVERDUE: dict[str, Any] = {"show": {"*": {"expires_at": 1}}}


@pytest.fixture(scope="module")
async def talk(
    kafka: EmbeddedKafka,
    postgres: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
    defences_off: tuple[str, ...],
) -> AsyncIterator[Conversation]:
    folder = tmp_path_factory.mktemp("calls")
    async with (
        open_bridge(kafka, postgres, folder, partitions=1, lanes=LANES, defences_off=defences_off) as bridge,
        bridge.service(**SETTINGS) as service,
    ):
        yield Conversation(bridge, service)


def http(operation: str, times: int | None = None, **fault: Any) -> dict[str, Any]:
    """A rule for the next calls, or for all."""
    rule: dict[str, Any] = {"operation": operation, "http": fault}
    return rule if times is None else {**rule, "times": times}


def batch(model: str, **outcome: Any) -> dict[str, Any]:
    """A rule for the batches of a lane."""
    return {"when": {"model": model}, "times": 1, "batch": outcome}


async def ask_all(talk: Conversation, models: Sequence[str], count: int = 5) -> None:
    """A batch of each model, all at once, whatever waits being due at once."""
    await asyncio.gather(*(talk.ask(chats(model, count), hurry=True) for model in models))


def made(talk: Conversation) -> int:
    """Batches at the provider."""
    return sum(each["event"] == "batch.created" for each in talk.bridge.simulator.journal())


@pytest.mark.outcome(
    "create-5xx", "create-timeout", "create-5xx-done", "create-timeout-done", "create-429", "rate-limited"
)
async def test_a_create_that_failed_or_was_lost_makes_one_batch_whatever_had_happened(talk: Conversation) -> None:
    lost: list[dict[str, Any]] = [
        {"status": 500},
        {"drop": True},
        {"status": 503, "effect": "done"},
        {"drop": True, "effect": "done"},
        {"status": 429, "headers": {"retry-after": "0.3"}},
    ]
    await talk.bridge.simulator.faults([http("batches.create", 1, **each) for each in lost])
    before = made(talk)
    models = [f"lost-{number}" for number in range(len(lost))]
    await ask_all(talk, models)
    assert await talk.bridge.simulator.fired() == [1] * len(lost)
    assert made(talk) == before + len(models)
    await talk.check()


@pytest.mark.outcome("list-stale-doubt", "list-page-2")
async def test_a_create_in_doubt_is_looked_up_for_longer_than_lists_are_stale(talk: Conversation) -> None:
    rules = [
        http("batches.create", 2, drop=True, effect="done"),
        http("batches.list", hide_newer_than_seconds=STALE_SECONDS),
    ]
    await talk.bridge.simulator.faults(rules)
    before = made(talk)
    await ask_all(talk, ["hidden-0", "hidden-1"])
    assert made(talk) == before + 2
    await talk.check()


@pytest.mark.outcome("list-endless")
async def test_a_create_in_doubt_is_adopted_from_a_list_that_neither_moves_on_nor_ends(talk: Conversation) -> None:
    rules = [http("batches.create", 1, drop=True, effect="done"), http("batches.list", first_page=True)]
    await talk.bridge.simulator.faults(rules)
    before = made(talk)
    await ask_all(talk, ["endless"])
    assert made(talk) == before + 1
    await talk.check()


@pytest.mark.outcome("cannot-find-file-400")
async def test_a_create_that_finds_no_file_is_made_again_then_with_another_file_and_never_answered(
    talk: Conversation,
) -> None:
    await talk.bridge.simulator.faults([http("batches.create", 10, **MISSING_FILE)])
    before = await talk.service.metric("penstock_provider_calls_total", operation="files.create")
    await ask_all(talk, ["unfound"])
    assert await talk.service.metric("penstock_provider_calls_total", operation="files.create") == before + 10
    assert await talk.creates("unfound") == 11
    await talk.check()


@pytest.mark.outcome("create-refused", "create-refused-model", "create-refused-line", "create-refused-size")
async def test_a_refused_create_is_answered_for_what_it_says_of_model_line_or_size_alone(talk: Conversation) -> None:
    rules = [
        http("batches.create", 1, status=404, code="model_not_found", message="No such model."),
        http("batches.create", 1, status=400, code="invalid_json_line", message="Bad JSON on line 2."),
        http("batches.create", 1, status=413, message="The file is too large."),
        http("batches.create", 1, status=422, code="odd", message="Something odd."),
    ]
    codes = {}
    for model, rule in zip(("no-model", "bad-line", "too-large", "nobody-knows"), rules, strict=True):
        await talk.bridge.simulator.faults([rule])
        if model == "nobody-knows":
            break
        answers = await talk.ask(chats(model, 4), hurry=True)
        codes[model] = [(each.json["error"] or {}).get("code") for each in answers]
    assert codes["no-model"] == ["model_not_found"] * 4
    assert sorted(codes["bad-line"], key=str) == [None, None, None, "invalid_json_line"]
    assert codes["too-large"] == [None] * 4, "two halves are taken"
    asked = asyncio.create_task(talk.ask(chats("nobody-knows", 2), hurry=True))
    halted = await talk.service.logged("lane.halted")
    assert (halted["code"], halted["detail"]) == ("odd", "Something odd.")
    assert not asked.done(), "what nobody foresaw is nobody's answer"
    await talk.bridge.sql("UPDATE lane SET halted_reason = NULL")
    await asked
    await talk.check()


@pytest.mark.defence("account_refusals")
@pytest.mark.outcome("account-refused")
async def test_a_refusal_of_the_account_answers_nothing_and_ends_by_itself(talk: Conversation) -> None:
    """Off: every request of the window is answered with it."""
    limit: dict[str, Any] = {
        "status": 400,
        "code": "billing_hard_limit_reached",
        "message": "Billing hard limit has been reached.",
    }
    await talk.bridge.simulator.faults([http("batches.create", **limit)])
    asked = asyncio.create_task(talk.ask(chats("billed", 3)))
    denied = await talk.service.logged("account.denied")
    assert limit["message"] in denied["error"]
    assert "budget" in denied["fix"]
    (halt,) = await talk.bridge.sql("SELECT * FROM account_halt")
    assert (halt["operation"], halt["code"], halt["detail"]) == ("batches.create", limit["code"], limit["message"])
    for _ in range(3):
        tried = (await talk.bridge.sql("UPDATE account_halt SET next_at = clock_timestamp() RETURNING tries"))[0][0]
        async with asyncio.timeout(WAIT_SECONDS):
            while (await talk.bridge.sql("SELECT tries FROM account_halt"))[0]["tries"] == tried:
                await asyncio.sleep(0.05)
    assert not asked.done()
    await talk.bridge.simulator.faults([])
    await talk.bridge.sql("UPDATE account_halt SET next_at = clock_timestamp()")
    assert {each.json["error"] for each in await asked} == {None}
    await talk.service.logged("account.allowed")
    assert not await talk.bridge.sql("SELECT * FROM account_halt")
    assert await talk.service.metric("penstock_account_halted") == 0
    await talk.check()


@pytest.mark.outcome("redirected")
async def test_a_redirect_halts_the_account_and_names_the_other_host(talk: Conversation) -> None:
    moved = http("batches.create", 1, status=307, headers={"location": "https://elsewhere.example/v1/batches?key=x"})
    await talk.bridge.simulator.faults([moved])
    asked = asyncio.create_task(talk.ask(chats("moved", 2), hurry=True))
    async with asyncio.timeout(WAIT_SECONDS):
        while not [each for each in talk.service.logs("account.denied") if "elsewhere.example" in each["error"]]:
            await asyncio.sleep(0.05)
    await asked
    assert await talk.creates("moved") == 2
    await talk.check()


@pytest.mark.outcome("create-cancelled-in-doubt")
async def test_a_cancel_ends_a_create_in_doubt_that_cannot_be_looked_up(talk: Conversation) -> None:
    await talk.bridge.simulator.faults([http("batches.create", 1, drop=True), http("batches.list", status=500)])
    asked = asyncio.create_task(talk.ask(chats("doubtful", 3), hurry=True))
    await talk.service.logged("create.unresolved")
    (batch_row,) = await talk.batches("doubtful")
    done = await penstock(talk.bridge.environment(**SETTINGS), "cancel", batch_row["id"], "--yes")
    assert done.code == 0
    assert {each.json["error"]["code"] for each in await asked} == {"batch_cancelled"}
    await talk.bridge.simulator.faults([])
    await talk.check()


@pytest.mark.defence("made_by_file")
@pytest.mark.outcome("metadata-dropped", "list-without-has-more")
async def test_a_create_in_doubt_is_found_by_its_file_where_metadata_is_dropped(talk: Conversation) -> None:
    """The list does not say whether there is more, and takes few at a time. Off: metadata alone tells; paid twice."""
    rules = [
        http("batches.create", 1, drop=True, effect="done"),
        http("batches.list", limit_max=20, without=["has_more"]),
        {"when": {"model": "unmarked"}, "batch": {"show": {"*": {"metadata": None}}}},
    ]
    await talk.bridge.simulator.faults(rules)
    before = made(talk)
    await talk.ask(chats("unmarked", 3), hurry=True)
    assert made(talk) == before + 1
    await talk.check()


@pytest.mark.outcome("create-answer-terminal", "cancel-409", "cancelled-line-lost")
async def test_odd_ends_are_collected_like_others(talk: Conversation) -> None:
    lost_line = {"end": "cancelled", "done_fraction": 0.5, "lines": [{"count": 1, "defect": "missing"}]}
    rules = [
        batch("over-at-once", show={"validating": {"status": "completed"}}, seconds={"validating": 1}),
        batch("over-at-cancel", **OVERDUE, seconds={"in_progress": 2}),
        http("batches.cancel", status=409),
        batch("line-lost", **lost_line),
    ]
    await talk.bridge.simulator.faults(rules)
    models = ["over-at-once", "over-at-cancel", "line-lost"]
    await ask_all(talk, models, 10)
    assert (await talk.bridge.simulator.fired())[2] >= 1
    assert [await talk.creates(model) for model in models] == [1, 1, 2]
    await talk.check(paid_twice=1)


@pytest.mark.defence("plain_statuses")
@pytest.mark.outcome("status-spelling")
async def test_statuses_and_times_in_another_spelling_end_their_batches(talk: Conversation) -> None:
    spelled = {"upper": "COMPLETED", "title": "Completed", "ended": "ended"}
    shown = [
        batch(model, show={"*": {"created_at": "2026-01-02T03:04:05Z"}, "completed": {"status": status}})
        for model, status in spelled.items()
    ]
    await talk.bridge.simulator.faults(shown)
    await ask_all(talk, list(spelled))
    assert [await talk.creates(model) for model in spelled] == [1, 1, 1]
    await talk.check()


@pytest.mark.outcome("stuck-validating", "stuck-in-progress", "stuck-finalizing", "forgotten")
async def test_what_never_ends_is_cancelled_or_given_up_and_goes_again(talk: Conversation) -> None:
    simulator, statuses = talk.bridge.simulator, ("validating", "in_progress", "finalizing")
    stuck = [batch(f"stuck-{each}", stuck=each, done_fraction=0.5, **OVERDUE) for each in statuses]
    await simulator.faults([*stuck, batch("forgotten", **OVERDUE, seconds={"in_progress": 3600})])
    asked = asyncio.gather(*(talk.ask(chats(f"stuck-{each}", 4)) for each in statuses))
    await talk.bridge.produce([chat(f"forgotten-{number}", model="forgotten") for number in range(4)])
    for model in ("forgotten", *(f"stuck-{each}" for each in statuses)):
        async with asyncio.timeout(WAIT_SECONDS):
            while not (rows := await talk.batches(model)) or rows[0]["provider_batch_id"] is None:
                await asyncio.sleep(0.02)
    rows = await talk.batches("forgotten")
    path = f"*/{rows[0]['provider_batch_id']}*"
    gone = {"operation": "batches.*", "when": {"path": path}, "http": {"status": 404}}
    unlisted = http("batches.list", hide_newer_than_seconds=3600)
    await simulator.faults([gone, unlisted, batch("kept", seconds={"in_progress": 6})])
    await talk.bridge.produce([chat("kept", model="kept")])  # the account still knows a batch of ours
    await asked
    await talk.answers([f"forgotten-{number}" for number in range(4)])
    await simulator.faults([])
    await talk.answers(["kept"])
    assert [await talk.creates(f"stuck-{each}") for each in statuses] == [2, 2, 2]
    async with simulator.client() as client:
        with suppress(ConflictError):  # the service may have cancelled it before it was gone
            await client.batches.cancel(rows[0]["provider_batch_id"])
    await talk.check()


@pytest.mark.outcome("overloaded", "rate-limited", "single-poll-fails")
async def test_an_overloaded_provider_delays_answers_and_loses_none(talk: Conversation) -> None:
    busy = {"probability": 0.3, "http": {"status": 503}}
    limited = {"probability": 0.2, "http": {"status": 429, "headers": {"retry-after": "0.2"}}}
    await talk.bridge.simulator.faults([busy, limited])
    asked = asyncio.create_task(ask_all(talk, [f"busy-{number}" for number in range(4)]))
    await asyncio.sleep(4)
    await talk.bridge.simulator.faults([])
    await asked
    await talk.check()


@pytest.mark.outcome("limit-custom-id")
async def test_the_provider_sees_custom_ids_that_every_provider_takes(talk: Conversation) -> None:
    await talk.bridge.simulator.faults([])
    odd = ["ü" * 256, " \t\n\u2028\0", "a" * 512, '"\\', "-"]
    answers = await talk.ask([chat(each, model="odd") for each in odd])
    assert [each.custom_id for each in answers] == odd
    sent = [each["custom_id"] for each in talk.bridge.simulator.journal() if each.get("model") == "odd"]
    assert len(sent) == len(odd)
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,64}", each) for each in sent)
    await talk.check()


@pytest.mark.outcome("retry-after-huge")
async def test_who_asks_for_a_day_is_asked_again_within_half_an_hour(bridge: Bridge) -> None:
    tomorrow = http("batches.create", 1, status=429, headers={"retry-after": "86400"})
    await bridge.simulator.faults([tomorrow])
    async with bridge.service() as service:
        await bridge.produce(chats("patient", 3))
        await service.logged("create.refused")
        async with asyncio.timeout(WAIT_SECONDS):
            while (row := (await bridge.sql("SELECT *, now() FROM batch"))[0])["state"] != "sealed":
                await asyncio.sleep(0.05)
        assert 1000 < (row["not_before"] - row["now"]).total_seconds() <= 1800
        assert row["refusals"] == 0
    async with bridge.service() as service:
        await Conversation(bridge, service).answers([f"patient-{number}" for number in range(3)], hurry=True)
        await bridge.check()
