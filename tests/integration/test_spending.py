"""Limits of US dollars a day: of a lane, of an account; what is over them waits for the next day of UTC."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import open_bridge
from tests.support.conversation import Conversation
from tests.support.request import chat

LANES = """
[defaults]
age_max_seconds = 0.3

[[lane]]
model = "gpt-4o"
name = "dear"
usd_per_day_max = 0.01
"""
ACCOUNT_USD = 0.05
WORDS = 400
COUNT = 50
YESTERDAY = "UPDATE batch SET sealed_at = sealed_at - interval '1 day' WHERE published_at IS NOT NULL"


@pytest.fixture(scope="module")
async def talk(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Conversation]:
    folder = tmp_path_factory.mktemp("spending")
    async with (
        open_bridge(kafka, postgres, folder, partitions=1, lanes=LANES) as bridge,
        bridge.service(intake_linger_seconds=0.2, provider_usd_per_day_max=ACCOUNT_USD) as service,
    ):
        yield Conversation(bridge, service)


def dear(count: int, model: str) -> list[dict[str, object]]:
    """Requests of so many words, which is what they cost."""
    return [chat(f"{model}-{number}", model=model, words=WORDS) for number in range(count)]


async def test_a_lane_stops_at_its_limit_while_others_go_on_and_goes_on_the_next_day(talk: Conversation) -> None:
    lines = dear(COUNT, "gpt-4o")
    await talk.bridge.produce(lines)
    stopped = await talk.service.logged("spending.stopped")
    assert (stopped["kind"], stopped["name"], stopped["level"]) == ("lane", "dear", "error")
    await talk.ask(dear(5, "gpt-4o-mini"))
    await talk.bridge.results(5 + 1)
    await asyncio.sleep(2)
    answered = len(talk.bridge.reader.received[talk.bridge.result_topic]) - 5
    assert 0 < answered < COUNT
    assert await talk.service.metric("penstock_spending_stopped", kind="lane", name="dear") == 1
    assert await talk.service.metric("penstock_spending_stopped", kind="account", name="default") == 0
    batches = [row["tokens"] for row in await talk.batches("gpt-4o")]
    spent = await talk.service.metric("penstock_spending_usd", kind="lane", name="dear")
    assert spent >= 0.01 - 2 * spent / sum(batches) * WORDS, "more could have been sealed"
    for _ in range(4 * COUNT):
        await talk.bridge.sql(YESTERDAY)
        if len(talk.bridge.reader.received[talk.bridge.result_topic]) == COUNT + 5:
            break
        await asyncio.sleep(0.5)
    await talk.answers([str(each["custom_id"]) for each in lines])
    assert await talk.service.logged("spending.resumed")
    await talk.check()


async def test_an_accounts_limit_holds_all_of_its_lanes(talk: Conversation) -> None:
    await talk.ask(dear(1, "gpt-4o-mini"))
    await talk.bridge.sql(YESTERDAY)
    await talk.bridge.sql("UPDATE batch SET sealed_at = now(), cost_usd = 1 WHERE published_at IS NOT NULL")
    lines = dear(5, "gpt-4o-mini-2024-07-18")
    await talk.bridge.produce(lines)
    await talk.service.reached("penstock_spending_stopped", 1, kind="account", name="default")
    await asyncio.sleep(2)
    assert await talk.batches("gpt-4o-mini-2024-07-18") == []
    await talk.bridge.sql(YESTERDAY)
    await talk.answers([str(each["custom_id"]) for each in lines])
    await talk.check()
