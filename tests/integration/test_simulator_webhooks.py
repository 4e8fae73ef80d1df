"""Webhooks as the simulator sends them, read by the SDK."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, InvalidWebhookSignatureError

from tests.support.receiver import SECRET, WAIT_SECONDS, Receiver, Webhook, opened_receiver
from tests.support.simulator import Simulator, chat_lines, create_batch, reach, run_batch


@pytest.fixture(scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    async with opened_receiver() as opened:
        yield opened


@pytest.fixture(scope="module")
async def simulator(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Simulator]:
    state = tmp_path_factory.mktemp("simulator")
    async with Simulator(state, webhook_url=receiver.url, webhook_secret=SECRET) as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator, receiver: Receiver) -> AsyncIterator[AsyncOpenAI]:
    await simulator.faults([])
    receiver.received.clear()
    async with simulator.client() as connected:
        yield connected


def unwrap(client: AsyncOpenAI, webhook: Webhook) -> Any:
    """The event, if its signature is right."""
    return client.webhooks.unwrap(webhook.body, webhook.headers, secret=SECRET)


@pytest.mark.parametrize(
    ("end", "rule"),
    [
        ("completed", {}),
        ("failed", {"end": "failed", "failure": {"code": "invalid_request"}}),
        ("expired", {"end": "expired"}),
        ("cancelled", {"end": "cancelled"}),
    ],
)
async def test_each_end_of_a_batch_is_announced_once(
    client: AsyncOpenAI, simulator: Simulator, receiver: Receiver, end: str, rule: dict[str, Any]
) -> None:
    await simulator.faults([{"batch": rule}])
    batch = await run_batch(client, chat_lines(1))
    (webhook,) = await receiver.take(1)
    event = unwrap(client, webhook)
    assert (event.type, event.data.id) == (f"batch.{end}", batch.id)
    assert event.id.startswith("evt_")
    assert webhook.headers["webhook-id"].startswith("wh_")


async def test_copies_have_the_same_id(client: AsyncOpenAI, simulator: Simulator, receiver: Receiver) -> None:
    await simulator.faults([{"webhook": {"copies": 3}}])
    await run_batch(client, chat_lines(1))
    assert [*Counter(each.headers["webhook-id"] for each in await receiver.take(3)).values()] == [3]


async def test_a_webhook_can_be_late_or_lost(client: AsyncOpenAI, simulator: Simulator, receiver: Receiver) -> None:
    late = {"nth": 1, "webhook": {"delay_seconds": 3}}
    await simulator.faults([late, {"nth": 2, "webhook": {"copies": 0}}])
    batches = [await run_batch(client, chat_lines(1)) for _ in range(3)]
    told = [unwrap(client, each).data.id for each in await receiver.take(2)]
    assert told == [batches[2].id, batches[0].id]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"signature": "forged"}, InvalidWebhookSignatureError),
        ({"signature": "missing"}, ValueError),
        ({"age_seconds": 302}, InvalidWebhookSignatureError),
        ({"age_seconds": -302}, InvalidWebhookSignatureError),
    ],
)
async def test_a_webhook_can_be_bad(
    client: AsyncOpenAI, simulator: Simulator, receiver: Receiver, fault: dict[str, Any], error: type[Exception]
) -> None:
    await simulator.faults([{"webhook": fault}])
    await run_batch(client, chat_lines(1))
    (webhook,) = await receiver.take(1)
    with pytest.raises(error):
        unwrap(client, webhook)


async def test_an_event_can_be_sent_on_demand(client: AsyncOpenAI, simulator: Simulator, receiver: Receiver) -> None:
    receiver.statuses = [200, 500]
    options = {"type": "batch.expired", "webhook_id": "wh_again", "webhook": {"copies": 2, "padding_bytes": 7}}
    assert await simulator.webhook("batch_1", **options) == [200, 500]
    for webhook in await receiver.take(2):
        event = unwrap(client, webhook)
        assert (webhook.headers["webhook-id"], event.type, event.data.id) == ("wh_again", "batch.expired", "batch_1")
        assert webhook.body.endswith(b"}       ")


async def test_what_is_refused_is_sent_again(client: AsyncOpenAI, receiver: Receiver) -> None:
    receiver.statuses = [500]
    batch = await run_batch(client, chat_lines(1))
    first, second = await receiver.take(2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert unwrap(client, second).data.id == batch.id


async def test_what_is_not_delivered_survives_a_kill(receiver: Receiver, tmp_path: Path) -> None:
    fault = {"webhook": {"delay_seconds": 1}, "nth": 1}
    async with Simulator(tmp_path, webhook_url=receiver.url, webhook_secret=SECRET) as simulator:
        await simulator.faults([fault])
        async with simulator.client() as client:
            batch = await create_batch(client, chat_lines(1))
            await reach(client, batch.id)
            await simulator.restart()
            (webhook,) = await receiver.take(1)
            assert unwrap(client, webhook).data.id == batch.id
        async with asyncio.timeout(WAIT_SECONDS):
            while (await simulator.control_state())["events"]:
                await asyncio.sleep(0.01)
