"""An operator's levers on a service at work: each may be pulled again, and each is in the audit log."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import WAIT_SECONDS, open_bridge
from tests.support.command import Finished, penstock
from tests.support.conversation import Conversation, chats
from tests.support.live_reader import Received

LANES = """
[defaults]
age_max_seconds = 0.3
retry_min_seconds = 0.1
retry_max_seconds = 0.3
enqueued_tokens_max = 2_000_000
"""
LONG = {"in_progress": 600}
STAYS_SECONDS = 2.0
"""What is not held comes back within this time."""


@pytest.fixture(scope="module")
async def talk(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Conversation]:
    folder = tmp_path_factory.mktemp("levers")
    async with (
        open_bridge(kafka, postgres, folder, partitions=1, lanes=LANES) as bridge,
        bridge.service(intake_linger_seconds=0.2) as service,
    ):
        yield Conversation(bridge, service)


async def pull(talk: Conversation, *words: object, given: bytes = b"") -> Finished:
    """Run a command."""
    return await penstock(talk.bridge.environment(), *words, given=given)


async def audited(talk: Conversation, event: str, target: str) -> dict[str, Any]:
    """The audit log's line of a word."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            for each in talk.service.logs(f"operator.{event}"):
                if each["target"] == target:
                    return each
            await asyncio.sleep(0.1)


async def batch_in(talk: Conversation, model: str, state: str) -> Any:
    """The newest batch of a model, once it is in a state."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            batches = await talk.batches(model)
            if batches and batches[-1]["state"] == state:
                return batches[-1]
            await asyncio.sleep(0.05)


def codes(answers: list[Received]) -> Counter[str]:
    """How many answers are a success, or have which error."""
    return Counter((each.json["error"] or {"code": "success"})["code"] for each in answers)


def ids(lines: list[dict[str, Any]]) -> list[str]:
    """Their custom_ids."""
    return [each["custom_id"] for each in lines]


async def test_a_paused_lane_waits_while_the_others_go_on(talk: Conversation) -> None:
    held = chats("held", 5)
    paused = await pull(talk, "pause", "lane", "held", "--reason", "runaway producer")
    assert paused.code == 0, paused
    assert "lane held is paused" in paused.out
    again = await pull(talk, "pause", "lane", "held")
    assert "lane held was paused" in again.out
    await talk.bridge.produce(held)
    await talk.ask(chats("free", 5))
    await asyncio.sleep(STAYS_SECONDS)
    assert await talk.batches("held") == []
    status = await pull(talk, "status", "--output", "json")
    assert [(each["kind"], each["name"], each["reason"]) for each in status.json["halts"]] == [
        ("lane", "held", "runaway producer")
    ]
    resumed = await pull(talk, "resume", "lane", "held")
    assert resumed.out == "lane held goes on\n"
    assert codes(await talk.answers(ids(held))) == {"success": 5}
    assert "no lane held is paused" in (await pull(talk, "resume", "lane", "held")).err
    assert (await audited(talk, "pause", "lane held"))["reason"] == "runaway producer"
    assert await audited(talk, "resume", "lane held")
    assert len(talk.service.logs("operator.pause")) == 1, "a word that changes nothing is no news"
    await talk.check()


async def test_what_is_sealed_when_its_account_is_paused_is_not_sent_and_gives_its_tokens_back(
    talk: Conversation,
) -> None:
    await talk.bridge.simulator.faults([{"operation": "files.create", "http": {"status": 503}}])
    lines = chats("sealed", 5)
    await talk.bridge.produce(lines)
    await batch_in(talk, "sealed", "sealed")
    paused = await pull(talk, "pause", "account", "default", "--output", "json")
    assert "default/v1/chat/completions:sealed@24h" in paused.json["lanes"]
    await talk.bridge.simulator.faults([])
    await asyncio.sleep(STAYS_SECONDS)
    async with asyncio.timeout(WAIT_SECONDS):
        while await talk.bridge.sql("SELECT * FROM reservation"):
            await asyncio.sleep(0.05)
    assert await talk.creates("sealed") == 0
    await pull(talk, "resume", "account")
    assert codes(await talk.answers(ids(lines), hurry=True)) == {"success": 5}
    await talk.check()


async def test_an_account_that_there_is_not_is_not_paused(talk: Conversation) -> None:
    refused = await pull(talk, "pause", "account", "defualt")
    assert refused.code != 0
    assert "there are: default" in refused.err


async def test_a_paused_topic_is_kept_by_kafka(talk: Conversation) -> None:
    topic = talk.bridge.requests
    assert (await pull(talk, "pause", "topic", "nowhere")).code == 2
    await pull(talk, "pause", "topic", topic)
    await talk.service.logged("topics.paused")
    await talk.service.reached("penstock_topic_paused", 1, topic=topic)
    lines = chats("kept", 5)
    await talk.bridge.produce(lines)
    await asyncio.sleep(STAYS_SECONDS)
    assert await talk.bridge.sql("SELECT * FROM chunk WHERE taken < requests") == []
    assert await talk.batches("kept") == []
    await pull(talk, "resume", "topic", topic)
    assert codes(await talk.answers(ids(lines))) == {"success": 5}
    await talk.service.fell_to("penstock_topic_paused", 0)
    await talk.check()


@pytest.mark.parametrize("again", [False, True], ids=["answered", "again"])
async def test_a_cancelled_batch_keeps_its_results_and_the_rest_is_as_asked(talk: Conversation, *, again: bool) -> None:
    model = f"cancelled-{again}"
    rule = {"when": {"model": model}, "times": 1, "batch": {"seconds": LONG, "done_fraction": 0.4}}
    await talk.bridge.simulator.faults([rule])
    lines = chats(model, 10)
    await talk.bridge.produce(lines)
    batch = await batch_in(talk, model, "submitted")
    words = ["cancel", str(batch["id"])[:13], "--yes", *(["--again"] if again else [])]
    for _ in range(2):
        done = await pull(talk, *words)
        assert done.code == 0, done
    answers = await talk.answers(ids(lines))
    assert codes(answers) == ({"success": 10} if again else {"success": 4, "batch_cancelled": 6})
    assert len(await talk.batches(model)) == (2 if again else 1)
    line = await audited(talk, "cancel", f"batch {batch['id']}")
    assert (line["rest"], line["requests"]) == ("again" if again else "answer", 10)
    other = await pull(talk, *words[:3], *([] if again else ["--again"]))
    assert other.code == 1
    assert "nothing left to cancel" in other.err
    await talk.check()


@pytest.mark.outcome("cancel-lost")
async def test_status_says_what_happens_to_a_cancelled_batch_that_nobody_can_ask_about(talk: Conversation) -> None:
    simulator, lines = talk.bridge.simulator, chats("unasked", 4)
    await simulator.faults([{"when": {"model": "unasked"}, "times": 1, "batch": {"seconds": LONG, "done_fraction": 0}}])
    await talk.bridge.produce(lines)
    batch = await batch_in(talk, "unasked", "submitted")
    await simulator.faults([{"operation": "batches.retrieve", "http": {"status": 400}}])
    done = await pull(talk, "cancel", batch["id"], "--yes")
    assert "penstock status shows what it waits for" in done.out
    (ending,) = (await pull(talk, "status", "--output", "json")).json["ending"]
    assert (ending["id"], ending["cancel"]) == (str(batch["id"]), "answer")
    assert "it is given up here" in ending["what_happens"]
    assert "it is given up here" in " ".join((await pull(talk, "status")).out.split())
    await simulator.faults([])
    assert codes(await talk.answers(ids(lines))) == {"batch_cancelled": 4}
    await talk.check()


@pytest.mark.parametrize("again", [False, True], ids=["answered", "again"])
@pytest.mark.outcome("cancel-ended")
async def test_a_batch_whose_files_cannot_be_had_ends_with_what_can_be(talk: Conversation, *, again: bool) -> None:
    model, lines = f"filed-{again}", chats(f"filed-{again}", 10)
    expired = {"when": {"model": model}, "times": 1, "batch": {"done_fraction": 0.4, "end": "expired"}}
    refused = {"operation": "files.content", "http": {"status": 500}}
    await talk.bridge.simulator.faults([expired, refused])
    await talk.bridge.produce(lines)
    batch = await batch_in(talk, model, "ended")
    async with asyncio.timeout(WAIT_SECONDS):
        while not any(each["batch"] == str(batch["id"]) for each in talk.service.logs("batch.waits")):
            await asyncio.sleep(0.05)
    (row,) = await talk.bridge.sql("SELECT output_file_id, error_file_id FROM batch WHERE id = $1", batch["id"])
    lost = row["output_file_id" if again else "error_file_id"]
    await talk.bridge.simulator.faults([{**refused, "when": {"path": f"*{lost}*"}}])
    words = ["cancel", batch["id"], "--yes", *(["--again"] if again else [])]
    done = await pull(talk, *words)
    assert done.code == 0, done
    (ending,) = (await pull(talk, "status", "--output", "json")).json["ending"] or [{}]
    assert not ending or "goes on without what cannot be had" in ending["what_happens"]
    assert codes(await talk.answers(ids(lines), hurry=True)) == (
        {"success": 10} if again else {"success": 4, "batch_cancelled": 6}
    )
    assert await talk.creates(model) == (2 if again else 1)
    (gone,) = [each for each in talk.service.logs("file.gone") if each["file"] == lost]
    assert "500" in gone["error"]
    await talk.bridge.simulator.faults([])
    await talk.check(paid_twice=4 if again else 0)


@pytest.mark.parametrize("again", [False, True], ids=["answered", "again"])
async def test_a_batch_that_was_not_sent_is_answered_or_goes_again_in_another(
    talk: Conversation, *, again: bool
) -> None:
    model = f"unsent-{again}"
    await talk.bridge.simulator.faults([{"operation": "files.create", "http": {"status": 503}}])
    lines = chats(model, 5)
    await talk.bridge.produce(lines)
    batch = await batch_in(talk, model, "sealed")
    words = ["cancel", batch["id"], *(["--again"] if again else [])]
    assert (await pull(talk, *words, given=b"n\n")).code == 1
    assert (await pull(talk, *words, given=b"y\n")).code == 0
    if again:
        async with asyncio.timeout(WAIT_SECONDS):
            while (await talk.batches(model))[0]["state"] == "sealed":
                await asyncio.sleep(0.05)
        await talk.bridge.simulator.faults([])
        assert codes(await talk.answers(ids(lines), hurry=True)) == {"success": 5}
        assert len(await talk.batches(model)) == 2
    else:
        assert codes(await talk.answers(ids(lines))) == {"batch_cancelled": 5}
        await talk.bridge.simulator.faults([])
        assert await talk.creates(model) == 0
    assert (await pull(talk, "cancel", "ffffffff-", "--yes")).code == 1
    await talk.check()
