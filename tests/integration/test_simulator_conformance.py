"""What the simulator answers and sends has exactly the fields of the SDK's types."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI, BaseModel
from openai.types import Batch, FileDeleted, FileObject
from openai.types.webhooks import (
    BatchCancelledWebhookEvent,
    BatchCompletedWebhookEvent,
    BatchExpiredWebhookEvent,
    BatchFailedWebhookEvent,
)

from batchsim.records import Status
from tests.support.receiver import SECRET, Receiver, opened_receiver
from tests.support.simulator import Simulator, chat_lines, create_batch, reach, run_batch

FAILURE = {"code": "invalid_request", "message": "Bad.", "param": "body.model", "line": 1}
RULES: dict[Status, dict[str, Any]] = {
    Status.VALIDATING: {"stuck": "validating"},
    Status.FAILED: {"end": "failed", "failure": FAILURE},
    Status.IN_PROGRESS: {"stuck": "in_progress"},
    Status.FINALIZING: {"stuck": "finalizing"},
    Status.COMPLETED: {},
    Status.EXPIRED: {"end": "expired"},
    Status.CANCELLING: {"end": "cancelled", "stuck": "cancelling"},
    Status.CANCELLED: {"end": "cancelled"},
}
"""What brings a batch to each status."""
EVENTS: dict[Status, type[BaseModel]] = {
    Status.FAILED: BatchFailedWebhookEvent,
    Status.COMPLETED: BatchCompletedWebhookEvent,
    Status.EXPIRED: BatchExpiredWebhookEvent,
    Status.CANCELLED: BatchCancelledWebhookEvent,
}


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


def assert_conforms(shape: type[BaseModel], answered: dict[str, Any]) -> None:
    """Every field of the SDK's type is there, none that it does not know, each of its type."""
    assert set(answered) == set(shape.model_fields)
    parsed = shape.model_validate(answered, strict=True)
    for name in shape.model_fields:
        value = getattr(parsed, name)
        many = isinstance(value, list)
        for one, raw in zip(value, answered[name], strict=True) if many else [(value, answered[name])]:
            if isinstance(one, BaseModel):
                assert_conforms(type(one), raw)


async def test_files_and_pages_have_exactly_the_fields_of_the_sdk(client: AsyncOpenAI) -> None:
    file = await client.files.with_raw_response.create(file=("a.jsonl", chat_lines(2)), purpose="batch")
    assert_conforms(FileObject, file.http_response.json())
    await run_batch(client, chat_lines(2))
    files = (await client.files.with_raw_response.list()).http_response.json()
    batches = (await client.batches.with_raw_response.list()).http_response.json()
    for page, shape in ((files, FileObject), (batches, Batch)):
        assert set(page) == {"object", "data", "first_id", "last_id", "has_more"}
        assert page["first_id"] == page["data"][0]["id"]
        assert page["last_id"] == page["data"][-1]["id"]
        for each in page["data"]:
            assert_conforms(shape, each)
    deleted = await client.files.with_raw_response.delete(files["first_id"])
    assert_conforms(FileDeleted, deleted.http_response.json())


@pytest.mark.parametrize("status", Status)
async def test_a_batch_of_each_status_has_exactly_the_fields_of_the_sdk(
    client: AsyncOpenAI, simulator: Simulator, status: Status
) -> None:
    await simulator.faults([{"batch": RULES[status]}])
    created = await create_batch(client, chat_lines(2), metadata={"lane": "a"})
    await reach(client, created.id, status)
    shown = (await client.batches.with_raw_response.retrieve(created.id)).http_response.json()
    assert_conforms(Batch, shown)
    assert (shown["status"], shown["metadata"]) == (status, {"lane": "a"})
    assert shown["errors"] == ({"object": "list", "data": [FAILURE]} if status is Status.FAILED else None)
    if status is not Status.VALIDATING:
        assert shown[f"{status}_at"] is not None


async def test_creating_and_cancelling_answer_with_exactly_the_fields_of_the_sdk(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    await simulator.faults([{"batch": {"stuck": "in_progress"}}])
    content = await client.files.create(file=("a.jsonl", chat_lines(1)), purpose="batch")
    created = await client.batches.with_raw_response.create(
        input_file_id=content.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    cancelled = await client.batches.with_raw_response.cancel(created.parse().id)
    for answer in (created, cancelled):
        assert_conforms(Batch, answer.http_response.json())


async def event_of(receiver: Receiver, batch_id: str) -> dict[str, Any]:
    """The event that tells of a batch; those of batches before it may come until then."""
    while True:
        for webhook in await receiver.take(1):
            event: dict[str, Any] = json.loads(webhook.body)
            if event["data"]["id"] == batch_id:
                return event


@pytest.mark.parametrize("end", EVENTS)
async def test_the_event_of_each_end_has_exactly_the_fields_of_the_sdk(
    client: AsyncOpenAI, simulator: Simulator, receiver: Receiver, end: Status
) -> None:
    await simulator.faults([{"batch": RULES[end]}])
    batch = await run_batch(client, chat_lines(1))
    event = await event_of(receiver, batch.id)
    assert_conforms(EVENTS[end], event)
    assert event["type"] == f"batch.{end}"
