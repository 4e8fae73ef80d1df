"""Batches that fail at validation, whatever the code and however many lines: one service, a lane for each case."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import WAIT_SECONDS, open_bridge
from tests.support.conversation import Conversation, chats
from tests.support.request import CANARY, chat, embedding, line

LANES = """
[defaults]
age_max_seconds = 0.3
retry_min_seconds = 0.1
"""
TINY_TOKENS = 20
ENQUEUED_INPUTS = 60
SIMULATOR = {
    "enqueued_inputs": ENQUEUED_INPUTS,
    "enqueued_tokens": [f"tiny={TINY_TOKENS}"],
    "in_progress_seconds": 0.2,
}
OF_A_LINE = (
    "invalid_json_line",
    "missing_required_parameter",
    "mismatched_model",
    "model_mismatch",
    "invalid_request",
    "streaming_unsupported",
)
OF_ALL_LINES = ("model_not_found", "invalid_url", "url_mismatch")
OF_OURS = ("duplicate_custom_id", "empty_file", "input_modified", "invalid_json_line")
OF_NOBODY = ("too_many_tasks", "input_no_permissions", "server_error")


@pytest.fixture(scope="module")
async def talk(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Conversation]:
    folder = tmp_path_factory.mktemp("validation")
    settings: dict[str, Any] = {"intake_linger_seconds": 0.2, "submitter_concurrency": 8}
    async with (
        open_bridge(kafka, postgres, folder, partitions=1, lanes=LANES, simulator=SIMULATOR) as bridge,
        bridge.service(**settings) as service,
    ):
        yield Conversation(bridge, service)


def refusals(kind: str, codes: Sequence[str], times: int = 1, **failure: Any) -> list[dict[str, Any]]:
    """A rule for each code, in a lane of its own."""
    return [
        {
            "when": {"model": f"{kind}-{code}"},
            "times": times,
            "batch": {"end": "failed", "failure": {"code": code, **failure}},
        }
        for code in codes
    ]


def spoiled(text: str) -> dict[str, Any]:
    """A rule that refuses every batch of the model `bad` for the first line that has this text in it."""
    failure = {"code": "invalid_request", "param": "body", "message": "Bad.", "contains": text}
    return {"when": {"model": "bad"}, "batch": {"end": "failed", "failure": failure}}


async def ask_each(talk: Conversation, kind: str, codes: Sequence[str], count: int = 4) -> dict[str, list[str | None]]:
    """The error codes of the answers of each lane, all asked at once."""
    asked = (talk.ask(chats(f"{kind}-{code}", count), hurry=True) for code in codes)
    answers = await asyncio.gather(*asked)
    return {code: [code_of(each.json) for each in given] for code, given in zip(codes, answers, strict=True)}


def code_of(answer: dict[str, Any]) -> str | None:
    """The code of an answer that is an error of validation."""
    code: str | None = answer["error"] and answer["error"]["code"]
    return code


@pytest.mark.outcome(
    "code-invalid-json-line",
    "code-missing-required-parameter",
    "code-mismatched-model",
    "code-model-mismatch",
    "code-invalid-request",
    "code-streaming-unsupported",
    "refused-one-line",
)
async def test_a_code_that_names_a_line_is_the_answer_of_that_line_alone(talk: Conversation) -> None:
    await talk.bridge.simulator.faults(refusals("line", OF_A_LINE, line=2))
    found = await ask_each(talk, "line", OF_A_LINE)
    assert found == {code: [None, code, None, None] for code in OF_A_LINE}
    assert [await talk.creates(f"line-{code}") for code in OF_A_LINE] == [2] * len(OF_A_LINE)
    await talk.check()


@pytest.mark.outcome("code-model-not-found", "code-invalid-url")
async def test_a_code_about_what_all_lines_share_is_the_answer_of_all_of_them(talk: Conversation) -> None:
    await talk.bridge.simulator.faults(refusals("all", OF_ALL_LINES, line=1))
    assert await ask_each(talk, "all", OF_ALL_LINES) == {code: [code] * 4 for code in OF_ALL_LINES}
    assert [await talk.creates(f"all-{code}") for code in OF_ALL_LINES] == [1] * len(OF_ALL_LINES)
    await talk.check()


@pytest.mark.outcome("code-duplicate-custom-id", "code-empty-file", "code-invalid-json-line-null")
async def test_a_code_about_what_we_wrote_halts_the_lane_until_an_operator_has_looked(talk: Conversation) -> None:
    await talk.bridge.simulator.faults(refusals("ours", OF_OURS))
    for code in OF_OURS:
        await talk.bridge.produce(chats(f"ours-{code}", 3))
    async with asyncio.timeout(WAIT_SECONDS):
        while len(halted := await talk.bridge.sql("SELECT model FROM lane WHERE halted_reason <> ''")) < len(OF_OURS):
            await asyncio.sleep(0.05)
    assert {row["model"] for row in halted} == {f"ours-{code}" for code in OF_OURS}
    assert Counter(each["code"] for each in talk.service.logs("lane.halted")) == Counter(OF_OURS)
    await talk.bridge.sql("UPDATE lane SET halted_reason = NULL")
    await talk.answers([each["custom_id"] for code in OF_OURS for each in chats(f"ours-{code}", 3)], hurry=True)
    assert [await talk.creates(f"ours-{code}") for code in OF_OURS] == [2] * len(OF_OURS)
    await talk.check()


@pytest.mark.outcome("code-nameless")
async def test_any_other_code_without_a_line_is_tried_again_in_the_end_with_a_new_file(talk: Conversation) -> None:
    await talk.bridge.simulator.faults(refusals("odd", OF_NOBODY, times=2))
    assert await ask_each(talk, "odd", OF_NOBODY) == {code: [None] * 4 for code in OF_NOBODY}
    for code in OF_NOBODY:
        (batch,) = await talk.batches(f"odd-{code}")
        assert (await talk.creates(f"odd-{code}"), batch["refusals"]) == (3, 0), "its creates were not refused"
    await talk.check()


@pytest.mark.outcome("refused-three-lines")
async def test_three_bad_lines_are_answered_and_the_others_go_again(talk: Conversation) -> None:
    await talk.bridge.simulator.faults([spoiled("spoiled")])
    bad = {2, 3, 7}
    lines = [chat(f"{'spoiled' if number in bad else 'good'}-{number}", model="bad") for number in range(10)]
    answers = await talk.ask(lines)
    assert {place for place, each in enumerate(answers) if code_of(each.json)} == bad
    assert await talk.creates("bad") == len(bad) + 1
    await talk.check()


@pytest.mark.outcome("token-limit-single", "code-token-limit-exceeded")
async def test_a_request_larger_than_the_limit_of_its_model_is_answered_so(talk: Conversation) -> None:
    lines = [chat("tiny-large", model="tiny", words=100), line("tiny-0", "/v1/moderations", "tiny", input=CANARY)]
    large, small = await talk.ask(lines, hurry=True)
    assert (code_of(large.json), code_of(small.json)) == ("token_limit_exceeded", None)
    await talk.check()


@pytest.mark.outcome("limit-inputs-enqueued")
async def test_embeddings_over_the_enqueued_inputs_go_when_there_is_room(talk: Conversation) -> None:
    simulator = talk.bridge.simulator
    await simulator.faults([{"when": {"model": "first"}, "times": 1, "batch": {"stuck": "in_progress"}}])
    first = [embedding(f"first-{n}", inputs=10, model="first") for n in range(5)]
    second = [embedding(f"second-{n}", inputs=10, model="second") for n in range(5)]
    asking = asyncio.create_task(talk.ask(first))

    async def refused() -> bool:
        waits = [batch["state"] for batch in await talk.batches("second")] == ["sealed"]
        return waits and await talk.creates("second") > 0

    async with asyncio.timeout(WAIT_SECONDS):
        while (await simulator.control_state())["batches"].get("in_progress", 0) == 0:
            await asyncio.sleep(0.02)
    await talk.bridge.produce(second)
    async with asyncio.timeout(WAIT_SECONDS), simulator.client() as client:
        while not await refused():
            await asyncio.sleep(0.05)
        await client.batches.cancel((await talk.batches("first"))[0]["provider_batch_id"])
    await talk.answers([each["custom_id"] for each in second], hurry=True)
    await asking
    assert await talk.creates("second") > 1
    await talk.check()
