"""What the simulator's manual promises, rule by rule."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, OpenAIError, RateLimitError

from tests.support.manual import outcomes
from tests.support.receiver import SECRET
from tests.support.simulator import (
    REACH_SECONDS,
    Simulator,
    chat_lines,
    create_batch,
    reach,
    result_lines,
    run_batch,
    upload,
)

PATIENCE_SECONDS = 3.0
"""For an answer that never comes."""
PAGES = 20
"""Of a list: a fault can make one that does not end."""
ENDS = ("completed", "failed", "expired", "cancelled")
OUTCOMES = outcomes()


@pytest.fixture(scope="module")
async def simulator(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Simulator]:
    nobody: dict[str, Any] = {"webhook_url": "http://127.0.0.1:1/", "webhook_secret": SECRET}
    async with Simulator(tmp_path_factory.mktemp("simulator"), seed="manual", **nobody) as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[AsyncOpenAI]:
    await simulator.faults([])
    async with simulator.client(api_key="sk-new") as connected:
        yield connected


async def ordinary_use(client: AsyncOpenAI, stuck: str | None) -> None:
    """Upload, create, look at it in every way until it ends or is stuck, and download."""
    hasty = client.with_options(timeout=PATIENCE_SECONDS)
    batch = await create_batch(hasty, chat_lines(10))
    batch = await reach(client, batch.id, *ENDS, *filter(None, [stuck]))
    pages = 0
    async for _ in client.batches.list(limit=1):
        pages += 1
        if pages == PAGES:
            break
    if batch.output_file_id:
        with suppress(OpenAIError):
            await client.files.retrieve(batch.output_file_id)
        for _ in range(2):
            await client.files.content(batch.output_file_id)


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_each_rule_of_the_tables_acts(client: AsyncOpenAI, simulator: Simulator, outcome: str) -> None:
    await create_batch(client, chat_lines(1))
    await simulator.faults([OUTCOMES[outcome]])
    with suppress(OpenAIError):
        await ordinary_use(client, OUTCOMES[outcome].get("batch", {}).get("stuck"))
    async with asyncio.timeout(REACH_SECONDS):
        while not sum(await simulator.fired()):
            await asyncio.sleep(0.01)


async def test_a_download_can_be_corrupt_at_its_right_length(client: AsyncOpenAI, simulator: Simulator) -> None:
    batch = await run_batch(client, chat_lines(1000))
    file_id = batch.output_file_id or ""
    await simulator.faults([{"operation": "files.content", "times": 1, "http": {"corrupt_at_byte": 300_000}}])
    corrupt, whole = [(await client.files.content(file_id)).content for _ in range(2)]
    assert len(corrupt) == len(whole)
    assert [place for place in range(len(whole)) if corrupt[place] != whole[place]] == [300_000]


async def test_the_end_of_an_upload_can_be_lost(client: AsyncOpenAI, simulator: Simulator) -> None:
    content = chat_lines(10)
    await simulator.faults([{"operation": "files.create", "times": 1, "http": {"keep_bytes": 100}}])
    file = await client.files.retrieve(await upload(client, content))
    assert file.bytes == 100
    assert (await client.files.content(file.id)).content == content[:100]


async def test_a_create_can_take_effect_and_not_answer(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"operation": "batches.create", "times": 1, "http": {"answer_delay_seconds": 900}}])
    with pytest.raises(OpenAIError, match="timed out"):
        await create_batch(client, chat_lines(1), metadata={"mark": "hangs"}, timeout=PATIENCE_SECONDS)
    async with asyncio.timeout(REACH_SECONDS):
        while {"mark": "hangs"} not in [batch.metadata for batch in (await client.batches.list()).data]:
            await asyncio.sleep(0.01)


async def test_files_without_lines_can_be_there(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"batch": {"empty_files": True}}])
    batch = await run_batch(client, chat_lines(2))
    assert len(await result_lines(client, batch.output_file_id)) == 2
    assert batch.error_file_id
    assert (await client.files.content(batch.error_file_id)).content == b""
    assert (await client.files.retrieve(batch.error_file_id)).bytes == 0


async def test_a_bad_line_fails_whatever_batch_it_is_in(client: AsyncOpenAI, simulator: Simulator) -> None:
    failure = {"code": "invalid_request", "message": "Bad.", "param": "body.input", "contains": '"request-2"'}
    await simulator.faults([{"batch": {"end": "failed", "failure": failure}}])
    for count, line in ((10, 3), (3, 3)):
        batch = await run_batch(client, chat_lines(count))
        assert batch.errors is not None
        assert [(each.code, each.param, each.line) for each in batch.errors.data or []] == [
            ("invalid_request", "body.input", line)
        ]
    good = await run_batch(client, chat_lines(2))
    assert len(await result_lines(client, good.output_file_id)) == 2


async def test_a_fault_can_concern_one_key_alone(client: AsyncOpenAI, simulator: Simulator) -> None:
    batch = await create_batch(client, chat_lines(1))
    await simulator.faults([{"when": {"key": "sk-old"}, "http": {"status": 401}}])
    async with simulator.client(api_key="sk-old") as revoked:
        with pytest.raises(APIStatusError) as raised:
            await revoked.batches.retrieve(batch.id)
    assert (raised.value.status_code, raised.value.code) == (401, "invalid_api_key")
    assert (await client.batches.retrieve(batch.id)).id == batch.id


async def test_uploads_and_storage_are_limited(tmp_path: Any) -> None:
    async with (
        Simulator(tmp_path / "state", uploads_per_minute=3, storage_bytes=1_000) as simulator,
        simulator.client() as client,
    ):
        first = await client.files.with_raw_response.create(file=("a", b"x" * 600), purpose="batch")
        assert first.headers["x-ratelimit-remaining-requests"] == "2"
        with pytest.raises(BadRequestError, match="You have exceeded your file storage quota"):
            await upload(client, b"x" * 600)
        await client.files.delete(first.parse().id)
        for _ in range(3):
            await upload(client, b"x" * 300)
        with pytest.raises(RateLimitError) as raised:
            await upload(client, b"x")
        assert raised.value.response.headers["retry-after"] == "1"
