"""What the provider limits: enqueued tokens of a model, known or found out, and the account's creates of an hour."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import open_bridge
from tests.support.conversation import Conversation, chats
from tests.support.request import chat

KNOWN, UNKNOWN, LARGE = 4000, 3000, 90_000
POLL = 5000
LANES = f"""
[defaults]
age_max_seconds = 0.3

[[lane]]
model = "known"
enqueued_tokens_max = {KNOWN}

[[lane]]
model = "large"
enqueued_tokens_max = {LARGE}

[[lane]]
model = "unknown"
requests_max = 10

[[lane]]
model = "small"
requests_max = 2
"""
SIMULATOR = {"enqueued_tokens": [f"known={KNOWN}", f"unknown={UNKNOWN}"], "in_progress_seconds": 0.3}
REFUSED = "penstock_batches_refused_total"
CREATES = 6
STAY = {"times": 4, "batch": {"seconds": {"in_progress": 2}}}
"""The first batches stay for long enough to be seen together."""


@pytest.fixture(scope="module")
async def talk(
    kafka: EmbeddedKafka,
    postgres: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
    defences_off: tuple[str, ...],
) -> AsyncIterator[Conversation]:
    folder = tmp_path_factory.mktemp("quota")
    async with (
        open_bridge(
            kafka, postgres, folder, partitions=1, lanes=LANES, simulator=SIMULATOR, defences_off=defences_off
        ) as bridge,
        bridge.service(intake_linger_seconds=0.2, submitter_concurrency=4) as service,
    ):
        yield Conversation(bridge, service)


async def peaks(talk: Conversation, model: str) -> tuple[int, int]:
    """The most tokens of a model that were enqueued, and the most batches in progress, until this is cancelled."""
    tokens = batches = 0
    try:
        while True:
            state = await talk.bridge.simulator.control_state()
            tokens = max(tokens, state["enqueued_tokens"].get(model, 0))
            batches = max(batches, state["batches"].get("in_progress", 0))
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        return tokens, batches


@pytest.mark.outcome("limit-tokens")
async def test_a_known_limit_is_never_exceeded_and_several_batches_use_it_at_once(talk: Conversation) -> None:
    await talk.bridge.simulator.faults([STAY])
    watching = asyncio.create_task(peaks(talk, "known"))
    await talk.ask([chat(f"known-{number}", model="known", words=40) for number in range(120)])
    watching.cancel()
    tokens, batches = await watching
    assert await talk.service.metric(REFUSED) == 0
    assert KNOWN / 2 < tokens <= KNOWN
    assert batches >= 2
    await talk.check()


@pytest.mark.outcome("code-token-limit-exceeded", "limit-tokens-unknown", "limit-tokens-released")
async def test_a_limit_that_nobody_told_is_learned_from_a_refusal_and_holds_up_no_other_model(
    talk: Conversation,
) -> None:
    """Six batches wait at once, and those that were taken stay until one finds no room.

    One is validated, then two, then the last three: no more than these can be refused, and none once the limit is
    known.
    """
    stays = {"when": {"model": "unknown"}, "times": 8, "batch": {"seconds": {"in_progress": 8}}}
    await talk.bridge.simulator.faults([stays])
    lines = [chat(f"unknown-{number}", model="unknown", words=40) for number in range(60)]
    starving = asyncio.create_task(talk.ask(lines, hurry=True))
    await talk.service.reached(REFUSED, 1, code="token_limit_exceeded")
    free = await talk.ask(chats("free", 5))
    assert not starving.done()
    answers = await starving
    assert free[-1].header("penstock-ended-at") < max(each.header("penstock-ended-at") for each in answers)
    refused = await talk.service.metric(REFUSED)
    assert 1 <= refused <= 3
    assert [each["learned_limit"] for each in await talk.bridge.sql("SELECT * FROM quota WHERE model = 'unknown'")] == [
        UNKNOWN
    ]
    await talk.bridge.simulator.faults([])
    await talk.ask([chat(f"known-by-now-{number}", model="unknown", words=40) for number in range(60)], hurry=True)
    assert await talk.service.metric(REFUSED) == refused, "the limit was not learned"
    await talk.check()


@pytest.mark.outcome("token-limit-unnamed")
async def test_a_limit_that_the_refusal_does_not_name_is_probed_by_one_batch_at_a_time(talk: Conversation) -> None:
    failure = {"code": "token_limit_exceeded", "message": "Too much is enqueued."}
    refused = {"when": {"model": "small"}, "times": 5, "batch": {"end": "failed", "failure": failure}}
    await talk.bridge.simulator.faults([refused])
    await talk.ask(chats("small", 10), hurry=True)
    files = {each["file_id"] for each in await talk.batches("small")}
    journal = talk.bridge.simulator.journal()
    events = [each["event"] for each in journal if each.get("input_file_id") in files or each.get("model") == "small"]
    assert events.index("request.executed") == 6, "after five refusals one probe, and nothing beside it"
    assert events.count("batch.created") == 10
    await talk.check()


@pytest.mark.outcome("limit-tokens")
async def test_one_poll_of_more_than_a_limit_drains_several_batches_at_once(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    simulator = {"enqueued_tokens": [f"large={LARGE}"], "in_progress_seconds": 0.5}
    lines = [chat(f"large-{number}", model="large", words=20) for number in range(POLL)]
    async with open_bridge(kafka, postgres, tmp_path, partitions=1, lanes=LANES, simulator=simulator) as bridge:
        await bridge.simulator.faults([STAY])
        await bridge.produce(lines)
        settings: dict[str, Any] = {"intake_requests_max": POLL, "intake_linger_seconds": 30}
        async with bridge.service(submitter_concurrency=4, **settings) as service:
            talk = Conversation(bridge, service)
            watching = asyncio.create_task(peaks(talk, "large"))
            await talk.answers([each["custom_id"] for each in lines], timeout_seconds=120)
            watching.cancel()
            tokens, batches = await watching
            chunks = await bridge.sql(
                "SELECT c.id FROM chunk AS c JOIN lane AS l ON l.id = c.lane_id WHERE model = 'large'"
            )
            assert len(chunks) == 1, "all came in one poll"
            assert len(await talk.batches("large")) >= 4
            assert await service.metric(REFUSED) == 0
            await talk.check()
    assert LARGE / 2 < tokens <= LARGE
    assert batches >= 2


@pytest.mark.outcome("creates-per-hour")
async def test_the_hours_creates_are_never_exceeded_and_what_waits_goes_when_there_are_more(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    models = [f"model-{number}" for number in range(2 * CREATES)]
    lines = [each for model in models for each in chats(model, 2)]
    async with open_bridge(kafka, postgres, tmp_path, partitions=1) as bridge:
        async with bridge.service(provider_creates_per_hour=CREATES) as thrifty:
            await bridge.produce(lines)
            await thrifty.reached("penstock_requests_received_total", len(lines))
            await thrifty.reached("penstock_window_age_stretched_seconds", 1.5)
            await bridge.results(2 * (CREATES // 2))
            assert CREATES // 2 <= len(await bridge.sql("SELECT id FROM intent")) <= CREATES < len(models)
        async with bridge.service(provider_creates_per_hour=2000) as generous:
            await Conversation(bridge, generous).answers([each["custom_id"] for each in lines])
            assert len(await bridge.sql("SELECT id FROM intent")) == len(models)
            await bridge.check()
