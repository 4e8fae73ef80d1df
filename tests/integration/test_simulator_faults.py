import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, NotFoundError, RateLimitError

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


@pytest.fixture(scope="module")
async def simulator(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Simulator]:
    async with Simulator(tmp_path_factory.mktemp("simulator"), seed="faults") as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[AsyncOpenAI]:
    await simulator.faults([])
    async with simulator.client() as connected:
        yield connected


async def with_metadata(client: AsyncOpenAI, mark: str) -> list[str]:
    """The ids of the batches that bear a mark in their metadata."""
    return [batch.id async for batch in client.batches.list(limit=100) if (batch.metadata or {}).get("mark") == mark]


async def test_a_storm_answers_with_status_headers_and_error(client: AsyncOpenAI, simulator: Simulator) -> None:
    fault = {"status": 429, "message": "Slow down.", "code": "slow_down", "headers": {"retry-after": "7"}}
    await simulator.faults([{"operation": "batches.*", "times": 1, "http": fault}])
    with pytest.raises(RateLimitError, match=r"Slow down\.") as raised:
        await client.batches.list()
    assert raised.value.code == "slow_down"
    assert raised.value.response.headers["retry-after"] == "7"
    assert (await client.batches.list()).has_more is not None
    assert await simulator.fired() == [1]


async def test_a_dropped_create_has_no_effect(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"operation": "batches.create", "times": 1, "http": {"drop": True}}])
    with pytest.raises(APIConnectionError):
        await create_batch(client, chat_lines(1), metadata={"mark": "dropped"})
    assert await with_metadata(client, "dropped") == []


@pytest.mark.parametrize("fault", [{"drop": True, "effect": "done"}, {"status": 500, "effect": "done"}])
async def test_a_create_can_land_while_its_answer_is_lost(
    client: AsyncOpenAI, simulator: Simulator, fault: dict[str, Any]
) -> None:
    await simulator.faults([{"operation": "batches.create", "times": 1, "http": fault}])
    with pytest.raises((APIConnectionError, APIStatusError)):
        await create_batch(client, chat_lines(1), metadata={"mark": json.dumps(fault)})
    (batch_id,) = await with_metadata(client, json.dumps(fault))
    assert (await reach(client, batch_id)).status == "completed"


async def test_a_create_can_land_late(client: AsyncOpenAI, simulator: Simulator) -> None:
    fault = {"effect": "late", "late_seconds": 2}
    await simulator.faults([{"operation": "batches.create", "times": 1, "http": fault}])
    with pytest.raises(APIConnectionError):
        await create_batch(client, chat_lines(1), metadata={"mark": "late"})
    assert await with_metadata(client, "late") == []
    async with asyncio.timeout(REACH_SECONDS):
        while not await with_metadata(client, "late"):
            await asyncio.sleep(0.01)
    assert len(await with_metadata(client, "late")) == 1


async def test_an_upload_can_land_while_its_answer_is_lost(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"operation": "files.create", "times": 1, "http": {"drop": True, "effect": "done"}}])
    with pytest.raises(APIConnectionError):
        await client.files.create(file=("lost-answer.jsonl", chat_lines(1)), purpose="batch")
    assert "lost-answer.jsonl" in [file.filename async for file in client.files.list(purpose="batch")]


async def test_a_storm_reaches_a_client_that_is_still_uploading(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"operation": "files.create", "http": {"status": 503}}])
    with pytest.raises(APIStatusError) as raised:
        await upload(client, b"x" * 5_000_000)
    assert raised.value.status_code == 503


async def test_a_call_can_be_slow(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"operation": "batches.list", "http": {"delay_seconds": 0.5}}])
    with pytest.raises(APIConnectionError, match="timed out"):
        await client.batches.list(timeout=0.1)


async def test_a_list_can_be_stale(client: AsyncOpenAI, simulator: Simulator) -> None:
    batch = await create_batch(client, chat_lines(1))
    await simulator.faults([{"operation": "*.list", "times": 2, "http": {"hide_newer_than_seconds": 60}}])
    assert batch.id not in [one.id for one in (await client.batches.list()).data]
    assert (await client.files.list()).data == []
    assert batch.id in [one.id for one in (await client.batches.list()).data]


async def test_a_later_page_can_fail(client: AsyncOpenAI, simulator: Simulator) -> None:
    for _ in range(3):
        await create_batch(client, chat_lines(1))
    rule = {"operation": "batches.list", "when": {"query": {"after": "*"}}, "http": {"status": 500}}
    await simulator.faults([rule])
    page = await client.batches.list(limit=2)
    assert len(page.data) == 2
    with pytest.raises(APIStatusError):
        await page.get_next_page()


async def test_a_known_object_can_be_not_found(client: AsyncOpenAI, simulator: Simulator) -> None:
    batch = await create_batch(client, chat_lines(1))
    rule = {"operation": "batches.retrieve", "when": {"path": f"*/{batch.id}"}, "nth": 2, "http": {"status": 404}}
    await simulator.faults([rule])
    await client.batches.retrieve(batch.id)
    with pytest.raises(NotFoundError):
        await client.batches.retrieve(batch.id)
    await client.batches.retrieve(batch.id)


async def test_a_download_can_break_off(client: AsyncOpenAI, simulator: Simulator) -> None:
    batch = await run_batch(client, chat_lines(1000))
    await simulator.faults([{"operation": "files.content", "times": 1, "http": {"cut_after_bytes": 1000}}])
    with pytest.raises(APIConnectionError):
        await client.files.content(batch.output_file_id or "")
    assert len(await result_lines(client, batch.output_file_id)) == 1000


async def test_a_download_can_be_short_without_a_sign(client: AsyncOpenAI, simulator: Simulator) -> None:
    batch = await run_batch(client, chat_lines(1000))
    await simulator.faults([{"operation": "files.content", "times": 1, "http": {"truncate_to_bytes": 1000}}])
    content = await client.files.content(batch.output_file_id or "")
    assert len(content.content) == 1000
    file = await client.files.retrieve(batch.output_file_id or "")
    assert file.bytes > 1000


@pytest.mark.parametrize(
    ("fault", "status_code", "code"),
    [
        ({"status_code": 429}, 429, "rate_limit_exceeded"),
        ({"status_code": 500}, 500, None),
        ({"status_code": 403, "code": "forbidden"}, 403, "forbidden"),
        ({"status_code": 0}, 0, None),
    ],
)
async def test_a_share_of_the_lines_can_fail(
    client: AsyncOpenAI, simulator: Simulator, fault: dict[str, Any], status_code: int, code: str | None
) -> None:
    await simulator.faults([{"times": 1, "batch": {"lines": [{"fraction": 0.3, **fault}]}}])
    batch = await run_batch(client, chat_lines(10))
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 10, "completed": 7, "failed": 3}
    failed = await result_lines(client, batch.error_file_id)
    assert [line["response"]["status_code"] for line in failed] == [status_code] * 3
    assert [line["response"]["body"]["error"]["code"] for line in failed] == [code] * 3
    assert [line["error"] for line in failed] == [None] * 3
    assert (await run_batch(client, chat_lines(10))).error_file_id is None


async def test_a_retry_of_the_same_request_can_succeed(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"batch": {"lines": [{"fraction": 0.5, "status_code": 429}]}}])
    failed: list[set[str]] = []
    for _ in range(2):
        batch = await run_batch(client, chat_lines(20))
        failed.append({line["custom_id"] for line in await result_lines(client, batch.error_file_id)})
    assert failed[0] != failed[1]


async def test_all_lines_can_fail(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"batch": {"lines": [{"status_code": 500}]}}])
    batch = await run_batch(client, chat_lines(4))
    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert len(await result_lines(client, batch.error_file_id)) == 4


async def test_lines_can_go_unexecuted(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"batch": {"lines": [{"count": 1, "code": "request_timeout"}]}}])
    batch = await run_batch(client, chat_lines(4))
    (line,) = await result_lines(client, batch.error_file_id)
    assert (line["response"], line["error"]["code"]) == (None, "request_timeout")
    assert batch.request_counts is not None
    assert batch.request_counts.failed == 1
    executed = [entry for entry in simulator.journal() if entry["batch_id"] == batch.id and "url" in entry]
    assert len(executed) == 3


@pytest.mark.parametrize("end", ["expired", "cancelled"])
async def test_a_batch_can_end_before_it_is_done(client: AsyncOpenAI, simulator: Simulator, end: str) -> None:
    await simulator.faults([{"batch": {"end": end, "done_fraction": 0.4}}])
    batch = await run_batch(client, chat_lines(10))
    assert batch.status == end
    done = await result_lines(client, batch.output_file_id)
    undone = await result_lines(client, batch.error_file_id)
    assert (len(done), len(undone)) == (4, 6)
    assert {line["error"]["code"] for line in undone} == {f"batch_{end}"}
    assert {line["custom_id"] for line in done + undone} == {f"request-{number}" for number in range(10)}
    assert batch.usage is not None
    assert batch.usage.input_tokens == sum(line["response"]["body"]["usage"]["prompt_tokens"] for line in done)


async def test_a_batch_can_fail_by_any_code(client: AsyncOpenAI, simulator: Simulator) -> None:
    failures = [{"code": "invalid_request"}, {"code": "too_many_tasks", "message": "Later.", "param": "x", "line": 3}]
    await simulator.faults([{"times": 1, "batch": {"end": "failed", "failure": failure}} for failure in failures])
    told = []
    for _ in failures:
        batch = await run_batch(client, chat_lines(1))
        assert batch.errors is not None
        told += batch.errors.data or []
    assert [(one.code, one.message, one.param, one.line) for one in told] == [
        ("invalid_request", "Cannot find file.", "file_id", None),
        ("too_many_tasks", "Later.", "x", 3),
    ]
    assert (await run_batch(client, chat_lines(1))).status == "completed"


@pytest.mark.parametrize("status", ["validating", "in_progress", "finalizing", "cancelling"])
async def test_a_batch_can_get_stuck(client: AsyncOpenAI, simulator: Simulator, status: str) -> None:
    await simulator.faults([{"times": 1, "batch": {"stuck": status}}])
    batch = await create_batch(client, chat_lines(1))
    if status == "cancelling":
        await client.batches.cancel(batch.id)
    await reach(client, batch.id, status)
    assert (await run_batch(client, chat_lines(1))).status == "completed"
    assert (await client.batches.retrieve(batch.id)).status == status


async def test_the_batch_object_can_lie(client: AsyncOpenAI, simulator: Simulator) -> None:
    show = {
        "*": {"request_counts": None, "expires_at": None, "error_file_id": ""},
        "in_progress": {"status": "pre_processing"},
        "completed": {"output_file_id": None},
    }
    await simulator.faults([{"batch": {"show": show, "seconds": {"in_progress": 1.5}}}])
    created = await create_batch(client, chat_lines(3))
    assert (created.request_counts, created.expires_at, created.error_file_id) == (None, None, "")
    await reach(client, created.id, "pre_processing")
    completed = await reach(client, created.id)
    assert (completed.output_file_id, completed.error_file_id) == (None, "")


@pytest.mark.parametrize(
    ("defect", "counts"),
    [("missing", (8, 0, 0)), ("twice", (12, 0, 0)), ("in_both_files", (10, 2, 0)), ("unknown_custom_id", (12, 0, 2))],
)
async def test_result_files_can_be_wrong(
    client: AsyncOpenAI, simulator: Simulator, defect: str, counts: tuple[int, int, int]
) -> None:
    await simulator.faults([{"batch": {"lines": [{"count": 2, "defect": defect}]}}])
    batch = await run_batch(client, chat_lines(10))
    output = await result_lines(client, batch.output_file_id)
    error = await result_lines(client, batch.error_file_id)
    strangers = sum(not line["custom_id"].startswith("request-") for line in output)
    assert (len(output), len(error), strangers) == counts
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 10, "completed": 10, "failed": 0}
    executed = Counter(
        entry["custom_id"] for entry in simulator.journal() if entry["batch_id"] == batch.id and "url" in entry
    )
    assert executed == {f"request-{number}": 1 for number in range(10)}


async def test_a_response_body_can_be_a_string(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"batch": {"lines": [{"defect": "body_as_string"}]}}])
    batch = await run_batch(client, chat_lines(1))
    (line,) = await result_lines(client, batch.output_file_id)
    assert json.loads(line["response"]["body"])["object"] == "chat.completion"


async def test_an_output_file_can_vanish(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"batch": {"vanished": ["output"]}}])
    batch = await run_batch(client, chat_lines(1))
    assert batch.output_file_id is not None
    with pytest.raises(NotFoundError):
        await client.files.content(batch.output_file_id)


async def test_a_second_download_can_be_in_another_order(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"batch": {"reordered": True}}])
    batch = await run_batch(client, chat_lines(20))
    first, second, third = [await result_lines(client, batch.output_file_id) for _ in range(3)]
    assert first != second
    assert second == third
    assert sorted(first, key=str) == sorted(second, key=str)


async def test_a_line_can_be_written_in_other_types_without_members_or_cut(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    faults = [
        {"count": 1, "written": {"error": "text", "custom_id": 7, "response.status_code": "200"}},
        {"count": 1, "without": ["custom_id"]},
        {"count": 1, "defect": "cut"},
    ]
    await simulator.faults([{"batch": {"lines": faults}}])
    batch = await run_batch(client, chat_lines(4))
    text = (await client.files.content(batch.output_file_id or "")).text.splitlines()
    lines = [json.loads(each) for each in text if each.endswith("}")]
    assert (batch.request_counts.completed if batch.request_counts else 0, len(text), len(lines)) == (4, 4, 3)
    (odd,) = [each for each in lines if each.get("custom_id") == 7]
    assert (odd["error"], odd["response"]["status_code"]) == ("text", "200")
    assert [each["response"]["status_code"] for each in lines if "custom_id" not in each] == [200]


async def test_a_file_id_can_appear_after_the_end(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"batch": {"late_file_ids": {"output": 0.5}}}])
    batch = await run_batch(client, chat_lines(1))
    assert (batch.status, batch.output_file_id) == ("completed", None)
    async with asyncio.timeout(REACH_SECONDS):
        while not batch.output_file_id:
            await asyncio.sleep(0.05)
            batch = await client.batches.retrieve(batch.id)
    assert len(await result_lines(client, batch.output_file_id)) == 1


async def test_a_list_can_show_a_stale_status_while_retrieve_tells_the_truth(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    batch = await run_batch(client, chat_lines(1))
    await simulator.faults([{"operation": "batches.list", "http": {"listed_status": "in_progress"}}])
    (listed,) = [each for each in (await client.batches.list(limit=100)).data if each.id == batch.id]
    assert (listed.status, listed.output_file_id, listed.completed_at) == ("in_progress", None, None)
    assert (await client.batches.retrieve(batch.id)).status == "completed"


async def test_a_size_can_be_told_wrongly_or_not_at_all_while_the_content_is_there(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    batch = await run_batch(client, chat_lines(1))
    file_id = batch.output_file_id or ""
    content = (await client.files.content(file_id)).content
    await simulator.faults([{"operation": "files.retrieve", "http": {"bytes_off": 100}}])
    assert (await client.files.retrieve(file_id)).bytes == len(content) + 100
    await simulator.faults([{"operation": "files.retrieve", "http": {"status": 400}}])
    with pytest.raises(APIStatusError):
        await client.files.retrieve(file_id)
    assert (await client.files.content(file_id)).content == content


async def test_what_is_not_found_can_be_answered_with_another_status(client: AsyncOpenAI, simulator: Simulator) -> None:
    batch = await run_batch(client, chat_lines(1))
    await simulator.faults([{"http": {"missing_status": 500}}])
    with pytest.raises(APIStatusError) as raised:
        await client.with_options(max_retries=0).batches.retrieve("batch_nobody")
    assert raised.value.status_code == 500
    assert (await client.batches.retrieve(batch.id)).status == "completed"


async def test_a_status_can_be_spelled_in_another_way_and_times_as_texts(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    shown = {"status": "COMPLETED", "created_at": "2026-01-02T03:04:05Z"}
    await simulator.faults([{"batch": {"show": {"completed": shown}}}])
    batch = await create_batch(client, chat_lines(1))
    async with asyncio.timeout(REACH_SECONDS):
        while str((batch := await client.batches.retrieve(batch.id)).status) != "COMPLETED":
            await asyncio.sleep(0.05)
    assert str(batch.created_at) == "2026-01-02T03:04:05Z"


async def test_rules_that_make_no_sense_are_refused(simulator: Simulator) -> None:
    with pytest.raises(OSError, match="422"):
        await simulator.faults([{"operation": "batches.create"}])


async def test_a_scenario_file_is_in_force_from_the_start(tmp_path: Path) -> None:
    scenario = tmp_path / "storm.toml"
    scenario.write_text('[[rules]]\noperation = "batches.list"\ntimes = 1\nhttp = { status = 503 }\n')
    async with Simulator(tmp_path / "state", scenario=scenario) as simulator, simulator.client() as client:
        with pytest.raises(APIStatusError):
            await client.batches.list()
        await simulator.restart()
        assert (await client.batches.list()).data == []
        assert await simulator.fired() == [1]


async def test_a_list_can_take_only_small_limits_and_leave_out_whether_there_is_more(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    capped = {"operation": "*.list", "http": {"limit_max": 50, "without": ["has_more"]}}
    await simulator.faults([capped])
    for listed in (client.batches.list, client.files.list):
        with pytest.raises(APIStatusError, match="limit") as raised:
            await listed(limit=100)
        assert raised.value.status_code == 400
        assert (await listed(limit=50)).has_more is None


async def test_a_list_can_show_its_first_page_for_ever(client: AsyncOpenAI, simulator: Simulator) -> None:
    for _ in range(2):
        await create_batch(client, chat_lines(1))
    await simulator.faults([{"operation": "*.list", "http": {"first_page": True}}])
    for listed in (client.batches.list, client.files.list):
        first = await listed(limit=1)
        second = await listed(limit=1, after=first.data[0].id)
        assert second.data[0].id == first.data[0].id
        assert second.has_more


async def test_a_call_can_be_refused_by_the_size_of_its_body(client: AsyncOpenAI, simulator: Simulator) -> None:
    too_large = {"operation": "files.create", "when": {"body_bytes_min": 5_000}, "http": {"status": 413}}
    await simulator.faults([too_large])
    with pytest.raises(APIStatusError) as raised:
        await upload(client, chat_lines(100))
    assert raised.value.status_code == 413
    assert await upload(client, chat_lines(1))


async def test_a_create_can_be_doubled_on_its_way(client: AsyncOpenAI, simulator: Simulator) -> None:
    await simulator.faults([{"operation": "batches.create", "times": 1, "http": {"copies": 2}}])
    answered = await create_batch(client, chat_lines(1), metadata={"mark": "doubled"})
    made = await with_metadata(client, "doubled")
    assert len(made) == 2
    assert answered.id in made
