import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai import (
    APIStatusError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    NotFoundError,
)

from tests.support.simulator import Simulator, upload


@pytest.fixture(scope="module")
async def simulator(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Simulator]:
    state = tmp_path_factory.mktemp("simulator")
    async with Simulator(state, api_key="sk-test", batch_file_bytes=100_000, file_bytes=200_000) as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[AsyncOpenAI]:
    async with simulator.client() as connected:
        yield connected


async def test_every_answer_has_a_request_id(client: AsyncOpenAI) -> None:
    answered = await client.batches.with_raw_response.list()
    assert (answered.request_id or "").startswith("req_")


async def test_a_file_comes_back_byte_by_byte(client: AsyncOpenAI, tmp_path: Path) -> None:
    content = os.urandom(90_000) + b"\r\n--boundary\r\n"
    path = tmp_path / "Ünïcode name.jsonl"
    path.write_bytes(content)
    with path.open("rb") as handle:
        file = await client.files.create(file=handle, purpose="batch")
    assert (file.bytes, file.filename, file.purpose) == (len(content), path.name, "batch")
    digest = hashlib.sha256()
    async with client.files.with_streaming_response.content(file.id) as response:
        async for chunk in response.iter_bytes():
            digest.update(chunk)
    assert digest.digest() == hashlib.sha256(content).digest()


async def test_batch_files_expire_after_thirty_days_unless_told_otherwise(client: AsyncOpenAI) -> None:
    usual = await client.files.create(file=("a", b"x"), purpose="batch")
    kept = await client.files.create(file=("a", b"x"), purpose="user_data")
    short = await client.files.create(
        file=("a", b"x"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert usual.expires_at == usual.created_at + 30 * 86_400
    assert kept.expires_at is None
    assert short.expires_at == short.created_at + 3600


async def test_files_are_listed_by_order_purpose_and_page(client: AsyncOpenAI) -> None:
    ids = [(await client.files.create(file=("a", b"x"), purpose="vision")).id for _ in range(5)]
    newest_first = [file.id async for file in client.files.list(purpose="vision", limit=2)]
    oldest_first = [file.id async for file in client.files.list(purpose="vision", limit=2, order="asc")]
    assert newest_first == ids[::-1]
    assert oldest_first == ids
    page = await client.files.list(purpose="vision", after=ids[2], order="asc")
    assert [file.id for file in page.data] == ids[3:]


async def test_a_deleted_file_is_gone(client: AsyncOpenAI) -> None:
    file_id = await upload(client, b"x")
    assert (await client.files.delete(file_id)).deleted
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(NotFoundError) as raised:
            await call(file_id)
        assert raised.value.body == {
            "message": f"No such File object: {file_id}",
            "type": "invalid_request_error",
            "param": "id",
            "code": None,
        }


@pytest.mark.parametrize(("purpose", "size"), [("batch", 100_001), ("user_data", 200_001)])
async def test_a_file_over_the_limit_of_its_purpose_is_refused(client: AsyncOpenAI, purpose: Any, size: int) -> None:
    accepted = await client.files.create(file=("a", b"x" * (size - 1)), purpose=purpose)
    assert accepted.bytes == size - 1
    with pytest.raises(BadRequestError, match=r"File is too large\."):
        await client.files.create(file=("a", b"x" * size), purpose=purpose)


@pytest.mark.parametrize(
    ("path", "param", "code"),
    [
        ("/files?limit=0", "limit", "integer_below_min_value"),
        ("/files?limit=10001", "limit", "integer_above_max_value"),
        ("/files?limit=many", "limit", "invalid_type"),
        ("/files?order=up", "order", "invalid_value"),
        ("/batches?limit=101", "limit", "integer_above_max_value"),
    ],
)
async def test_bad_query_parameters_are_named(client: AsyncOpenAI, path: str, param: str, code: str) -> None:
    with pytest.raises(BadRequestError) as raised:
        await client.get(path, cast_to=object)
    assert (raised.value.param, raised.value.code) == (param, code)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"purpose": "nothing"}, "purpose"),
        ({"purpose": "batch", "expires_after": {"anchor": "created_at", "seconds": 10}}, "expires_after.seconds"),
        ({"purpose": "batch", "expires_after": {"anchor": "now", "seconds": 3600}}, "expires_after.anchor"),
    ],
)
async def test_bad_upload_parameters_are_named(client: AsyncOpenAI, options: Any, param: str) -> None:
    with pytest.raises(BadRequestError) as raised:
        await client.files.create(file=("a", b"x"), **options)
    assert raised.value.param == param


async def test_a_wrong_key_is_told_apart(simulator: Simulator) -> None:
    async with simulator.client(api_key="sk-wrong") as stranger:
        with pytest.raises(AuthenticationError) as raised:
            await upload(stranger, b"x" * 90_000)
    assert raised.value.code == "invalid_api_key"
    assert "sk-wrong" not in raised.value.message


async def test_what_the_api_has_not_is_an_invalid_url(client: AsyncOpenAI) -> None:
    with pytest.raises(NotFoundError, match=r"Invalid URL \(GET /v1/nothing\)"):
        await client.get("/nothing", cast_to=object)


async def test_an_upload_without_a_form_is_refused(client: AsyncOpenAI) -> None:
    with pytest.raises(APIStatusError) as raised:
        await client.post("/files", body={"purpose": "batch"}, cast_to=object)
    assert not isinstance(raised.value, InternalServerError)


async def test_an_unfinished_upload_leaves_nothing(simulator: Simulator, client: AsyncOpenAI) -> None:
    await simulator.faults([{"operation": "files.create", "http": {"drop": True}}])
    before = {file.id async for file in client.files.list()}
    with pytest.raises(Exception, match="Connection error"):
        await upload(client, b"x" * 90_000)
    await simulator.faults([])
    assert {file.id async for file in client.files.list()} == before
    assert list((simulator.state / "scratch").iterdir()) == []
