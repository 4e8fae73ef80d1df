import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from openai import AsyncOpenAI, BadRequestError, ConflictError, NotFoundError, RateLimitError

from batchsim.answer import answer
from batchsim.records import Usage
from tests.support.simulator import (
    REACH_SECONDS,
    Simulator,
    chat_lines,
    create_batch,
    reach,
    request_line,
    result_lines,
    run_batch,
    upload,
)

CHAT: Final = "/v1/chat/completions"
TOKEN_MESSAGE = (
    "Enqueued token limit reached for gpt-4o in organization org-batchsim. Limit: 200 enqueued tokens. "
    "Please try again once some in_progress batches have been completed."
)


@pytest.fixture(scope="module")
async def simulator(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Simulator]:
    state = tmp_path_factory.mktemp("simulator")
    async with Simulator(state, enqueued_tokens=["gpt-4o=200"], model=["gpt-4o-mini", "gpt-4o", "embed"]) as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[AsyncOpenAI]:
    await simulator.faults([])
    async with simulator.client() as connected:
        yield connected


def bodies_of(content: bytes) -> dict[str, bytes]:
    """The bytes of each request's body, by custom_id."""
    return {json.loads(line)["custom_id"]: line.split(b'"body": ', 1)[1][:-1] for line in content.split(b"\n") if line}


async def test_a_batch_completes_with_the_answer_of_each_request(client: AsyncOpenAI, simulator: Simulator) -> None:
    content = chat_lines(50)
    batch = await run_batch(client, content, metadata={"lane": "a"})
    assert (batch.status, batch.model, batch.errors, batch.error_file_id) == ("completed", "gpt-4o-mini", None, None)
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 50, "completed": 50, "failed": 0}
    assert batch.expires_at == batch.created_at + 86_400
    assert batch.in_progress_at is not None
    assert batch.finalizing_at is not None
    assert batch.completed_at is not None
    usage = Usage()
    bodies = bodies_of(content)
    lines = await result_lines(client, batch.output_file_id)
    for line in lines:
        status_code, body = answer(CHAT, bodies[line["custom_id"]])
        assert line["response"]["status_code"] == status_code == 200
        assert line["response"]["body"] == body
        assert line["error"] is None
        usage.add(body)
    assert sorted(line["custom_id"] for line in lines) == sorted(bodies)
    assert [line["custom_id"] for line in lines] != list(bodies)
    assert batch.usage is not None
    assert batch.usage.to_dict() == usage.as_object()
    assert usage.cached_tokens > 0
    assert usage.reasoning_tokens > 0
    executed = [entry for entry in simulator.journal() if entry.get("custom_id") and entry["batch_id"] == batch.id]
    assert {entry["custom_id"]: entry["body_sha256"] for entry in executed} == {
        custom_id: hashlib.sha256(body).hexdigest() for custom_id, body in bodies.items()
    }
    assert len(executed) == 50


async def test_a_created_batch_is_in_the_journal(client: AsyncOpenAI, simulator: Simulator) -> None:
    batch = await create_batch(client, chat_lines(1), metadata={"lane": "b"})
    created = [entry for entry in simulator.journal() if entry["batch_id"] == batch.id and "metadata" in entry]
    assert [(entry["event"], entry["input_file_id"], entry["metadata"]) for entry in created] == [
        ("batch.created", batch.input_file_id, {"lane": "b"})
    ]


async def test_result_files_are_batch_outputs_that_expire(client: AsyncOpenAI) -> None:
    usual = await run_batch(client, chat_lines(1))
    file = await client.files.retrieve(usual.output_file_id or "")
    assert (file.purpose, file.filename) == ("batch_output", f"{usual.id}_output.jsonl")
    assert file.expires_at == file.created_at + 30 * 86_400
    short = await run_batch(client, chat_lines(1), output_expires_after={"anchor": "created_at", "seconds": 3600})
    file = await client.files.retrieve(short.output_file_id or "")
    assert file.expires_at == file.created_at + 3600


async def test_requests_that_fail_are_in_the_error_file(client: AsyncOpenAI) -> None:
    good, bad = {"model": "gpt-4o-mini", "messages": []}, {"model": "gpt-4o-mini"}
    batch = await run_batch(client, request_line("good", good) + request_line("bad", bad))
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 2, "completed": 1, "failed": 1}
    (line,) = await result_lines(client, batch.error_file_id)
    assert (line["custom_id"], line["error"], line["response"]["status_code"]) == ("bad", None, 400)
    assert line["response"]["body"]["error"]["param"] == "messages"


async def test_when_all_requests_fail_there_is_no_output_file(client: AsyncOpenAI) -> None:
    batch = await run_batch(client, request_line("bad", {"model": "gpt-4o-mini"}))
    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert batch.error_file_id is not None


async def test_embeddings_have_the_configured_dimensions(client: AsyncOpenAI) -> None:
    body = {"model": "embed", "input": ["a", "b"]}
    batch = await run_batch(client, request_line("a", body, "/v1/embeddings"), "/v1/embeddings")
    (line,) = await result_lines(client, batch.output_file_id)
    assert [len(one["embedding"]) for one in line["response"]["body"]["data"]] == [8, 8]
    assert batch.usage is not None
    assert batch.usage.output_tokens == 0


@pytest.mark.parametrize(
    ("content", "code", "param", "line"),
    [
        (chat_lines(1) + b"{nothing\n", "invalid_json_line", None, 2),
        (chat_lines(1) + chat_lines(1), "duplicate_custom_id", "custom_id", 2),
        (request_line("", {"model": "gpt-4o-mini"}), "missing_required_parameter", "custom_id", 1),
        (
            request_line("a", {"model": "gpt-4o-mini"}) + request_line("b", {"model": "gpt-4o"}),
            "mismatched_model",
            "body.model",
            2,
        ),
        (request_line("a", {"model": "nothing"}), "model_not_found", "body.model", 1),
        (request_line("a", {}), "invalid_request", "body.model", 1),
        (request_line("a", {"model": "gpt-4o-mini"}, "/v1/responses"), "invalid_url", "url", 1),
        (request_line("a", {"model": "gpt-4o-mini", "stream": True}), "streaming_unsupported", "body.stream", 1),
        (b"", "empty_file", None, None),
    ],
)
async def test_a_bad_file_fails_later_with_one_error(
    client: AsyncOpenAI, content: bytes, code: str, param: str | None, line: int | None
) -> None:
    created = await create_batch(client, content)
    assert created.status == "validating"
    batch = await reach(client, created.id)
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [(one.code, one.param, one.line) for one in batch.errors.data] == [(code, param, line)]
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 0, "completed": 0, "failed": 0}
    assert (batch.output_file_id, batch.error_file_id) == (None, None)


async def test_a_missing_or_foreign_input_file_fails_the_batch(client: AsyncOpenAI) -> None:
    foreign = (await client.files.create(file=("a", chat_lines(1)), purpose="user_data")).id
    for file_id in ("file-none", foreign):
        created = await client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
        batch = await reach(client, created.id)
        assert batch.errors is not None
        assert batch.errors.data is not None
        assert [(one.code, one.param, one.line) for one in batch.errors.data] == [("invalid_request", "file_id", None)]


async def test_enqueued_tokens_are_limited_by_model_and_released_at_the_end(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 420}]}
    content = request_line("a", body)
    await simulator.faults([{"nth": 1, "batch": {"stuck": "in_progress"}}])
    first = await create_batch(client, content)
    await reach(client, first.id, "in_progress")
    refused = await run_batch(client, content)
    assert refused.status == "failed"
    assert refused.errors is not None
    assert refused.errors.data is not None
    assert [(one.code, one.param, one.line, one.message) for one in refused.errors.data] == [
        (
            "token_limit_exceeded",
            None,
            None,
            TOKEN_MESSAGE,
        )
    ]
    assert (await run_batch(client, chat_lines(5))).status == "completed"
    await client.batches.cancel(first.id)
    await reach(client, first.id)
    assert (await run_batch(client, content)).status == "completed"


async def test_batches_are_listed_newest_first_by_pages(client: AsyncOpenAI) -> None:
    file_id = await upload(client, chat_lines(1))
    ids = [
        (await client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")).id
        for _ in range(5)
    ]
    page = await client.batches.list(limit=3)
    assert [batch.id for batch in page.data] == ids[:1:-1]
    assert page.has_more
    listed = [batch.id async for batch in client.batches.list(limit=2)]
    assert listed[:5] == ids[::-1]
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"endpoint": "/v1/audio"}, "invalid_value"),
        ({"completion_window": "1h"}, "invalid_value"),
        ({"metadata": {f"key{number}": "" for number in range(17)}}, "object_above_max_properties"),
        ({"metadata": {"k" * 65: "v"}}, "string_above_max_length"),
        ({"metadata": {"k": "v" * 513}}, "string_above_max_length"),
        ({"metadata": {"k": 1}}, "invalid_type"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "integer_below_min_value"),
    ],
)
async def test_bad_parameters_are_refused_at_create(client: AsyncOpenAI, options: Any, code: str) -> None:
    with pytest.raises(BadRequestError) as raised:
        await client.batches.create(
            **{"input_file_id": "file-1", "endpoint": CHAT, "completion_window": "24h", **options}
        )
    assert raised.value.code == code


async def test_metadata_at_its_limits_is_kept(client: AsyncOpenAI) -> None:
    metadata = {f"{number:064}": "v" * 512 for number in range(16)}
    batch = await create_batch(client, chat_lines(1), metadata=metadata)
    assert (await client.batches.retrieve(batch.id)).metadata == metadata


async def test_an_unknown_batch_is_not_found(client: AsyncOpenAI) -> None:
    for call in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(NotFoundError):
            await call("batch_none")


async def test_a_cancelled_batch_keeps_what_was_done(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"batch": {"stuck": "in_progress", "done_fraction": 0.3}}])
    batch = await create_batch(client, chat_lines(10))
    await reach(client, batch.id, "in_progress")
    cancelling = await client.batches.cancel(batch.id)
    assert cancelling.status == "cancelling"
    cancelled = await reach(client, batch.id)
    assert cancelled.status == "cancelled"
    assert cancelled.cancelled_at is not None
    done = await result_lines(client, cancelled.output_file_id)
    undone = await result_lines(client, cancelled.error_file_id)
    assert (len(done), len(undone)) == (3, 7)
    assert all(line["response"] is None and line["error"]["code"] == "batch_cancelled" for line in undone)
    executed = {entry["custom_id"] for entry in simulator.journal() if entry["batch_id"] == batch.id and "url" in entry}
    assert executed == {line["custom_id"] for line in done}


async def test_a_batch_cancelled_while_validating_has_no_files(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"batch": {"stuck": "validating", "seconds": {"cancelling": 2}}}])
    batch = await create_batch(client, chat_lines(3))
    assert (await client.batches.cancel(batch.id)).status == "cancelling"
    assert (await client.batches.cancel(batch.id)).status == "cancelling"
    cancelled = await reach(client, batch.id)
    assert (cancelled.status, cancelled.output_file_id, cancelled.error_file_id) == ("cancelled", None, None)


async def test_a_terminal_batch_cannot_be_cancelled(client: AsyncOpenAI) -> None:
    batch = await run_batch(client, chat_lines(1))
    with pytest.raises(ConflictError, match="Cannot cancel a batch with status 'completed'"):
        await client.batches.cancel(batch.id)


async def test_deleting_the_input_file_does_not_touch_a_batch_that_runs(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    await simulator.faults([{"batch": {"seconds": {"in_progress": 1.5}}}])
    batch = await create_batch(client, chat_lines(3))
    await reach(client, batch.id, "in_progress")
    await client.files.delete(batch.input_file_id)
    assert (await reach(client, batch.id)).status == "completed"
    async with asyncio.timeout(REACH_SECONDS):
        while list((simulator.state / "inputs").iterdir()):
            await asyncio.sleep(0.01)


async def test_every_status_can_be_seen_on_the_way(client: AsyncOpenAI, simulator: Simulator) -> None:
    seconds = {"validating": 1, "in_progress": 1, "finalizing": 1}
    await simulator.faults([{"batch": {"seconds": seconds}}])
    batch = await create_batch(client, chat_lines(1))
    for status in ("validating", "in_progress", "finalizing", "completed"):
        assert (await reach(client, batch.id, status)).status == status


async def test_creates_are_limited_by_the_hour(tmp_path: Path) -> None:
    async with Simulator(tmp_path / "state", creates_per_hour=2) as simulator, simulator.client() as client:
        for _ in range(2):
            await create_batch(client, chat_lines(1))
        with pytest.raises(RateLimitError) as raised:
            await create_batch(client, chat_lines(1))
        assert raised.value.response.headers["retry-after"] == "60"


async def test_a_batch_expires_when_its_window_ends(tmp_path: Path) -> None:
    slow = Simulator(tmp_path / "state", window_seconds=2, in_progress_seconds=4)
    async with slow as simulator, simulator.client() as client:
        batch = await run_batch(client, chat_lines(100))
        assert batch.status == "expired"
        done = await result_lines(client, batch.output_file_id)
        undone = await result_lines(client, batch.error_file_id)
        assert 0 < len(done) <= 50
        assert len(done) + len(undone) == 100
        assert {line["error"]["code"] for line in undone} == {"batch_expired"}


async def test_enqueued_embedding_inputs_are_limited_and_released_at_the_end(tmp_path: Path) -> None:
    def embeddings(name: str, inputs: int) -> bytes:
        return request_line(name, {"model": name, "input": ["a"] * inputs}, "/v1/embeddings")

    async with Simulator(tmp_path, enqueued_inputs=10) as simulator, simulator.client() as sdk:
        await simulator.faults([{"nth": 1, "batch": {"stuck": "in_progress"}}])
        first = await create_batch(sdk, embeddings("first", 6), "/v1/embeddings")
        await reach(sdk, first.id, "in_progress")
        refused = await run_batch(sdk, embeddings("second", 5), "/v1/embeddings")
        assert refused.errors is not None
        assert [(each.code, each.line) for each in refused.errors.data or []] == [("request_limit_exceeded", None)]
        assert (await run_batch(sdk, embeddings("third", 4), "/v1/embeddings")).status == "completed"
        await sdk.batches.cancel(first.id)
        await reach(sdk, first.id)
        assert (await run_batch(sdk, embeddings("fourth", 10), "/v1/embeddings")).status == "completed"
