import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import openai
import pytest
from openai.types import Batch
from prometheus_client import REGISTRY

from penstock.core.batch import BatchError, ProviderBatch
from penstock.core.errors import ProviderError, ProviderInDoubt, ProviderUnavailable
from penstock.provider import client as module
from penstock.provider.answer import moment, provider_batch, readable
from penstock.provider.client import AWAY_SECONDS, ProviderClient, nothing
from penstock.settings import ProviderSettings
from tests.support.certificates import certificates

NOW = datetime(2026, 1, 2, tzinfo=UTC)
REQUEST = httpx2.Request("GET", "http://127.0.0.1/v1/files")


def batch(name: str = "batch_1", **fields: Any) -> Any:
    """What the SDK makes of a server's answer."""
    return Batch.construct(id=name, **{"status": "in_progress", "created_at": int(NOW.timestamp()), **fields})


def test_the_providers_words_are_such_as_postgres_takes() -> None:
    errors = {"data": [None, {"code": "a\0b", "message": "\ud800" + "x" * 9999, "line": "one"}, {"code": None}]}
    seen = provider_batch(batch(status="st\0range\udfff", errors=errors))
    assert seen.status == "strange?"
    assert seen.errors == (BatchError("ab", "?" + "x" * 299, None), BatchError("unknown", "", None))


@pytest.mark.parametrize("errors", [None, [], "text", {"data": None}, {"data": "text"}, {"data": [None]}])
def test_errors_of_any_shape_are_read(errors: object) -> None:
    assert provider_batch(batch(errors=errors, usage={"input_tokens": None}, metadata={"a": 1})).errors == ()


def test_a_time_is_read_in_seconds_and_milliseconds_and_anything_else_is_unknown() -> None:
    seconds = int(NOW.timestamp())
    assert moment(seconds) == moment(seconds * 1000) == NOW
    assert [moment(each) for each in (None, 0, -1, "2026", 10**30, float("nan"))] == [None] * 6


@pytest.mark.parametrize(
    "value",
    [
        "1767323045",
        "1767323045.0",
        1767323045,
        1767323045000,
        "1767323045000",
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05",
        "2026-01-02T05:04:05+02:00",
        " 2026-01-02 03:04:05Z",
    ],
)
def test_a_time_may_be_a_text(value: object) -> None:
    assert moment(value) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("value", ["", "soon", "nan", "inf", "-1", "99999999999999999999", "2026-13-01"])
def test_a_text_that_is_no_time_is_unknown(value: str) -> None:
    assert moment(value) is None


@pytest.mark.outcome("status-spelling")
@pytest.mark.parametrize(
    ("told", "status"),
    [
        ("Completed", "completed"),
        ("COMPLETED", "completed"),
        ("ended", "completed"),
        ("JOB_STATE_SUCCEEDED", "completed"),
        ("canceled", "cancelled"),
        ("Canceling", "cancelling"),
        ("CANCELLATION_REQUESTED", "cancelling"),
        ("TIMEOUT_EXCEEDED", "expired"),
        ("in-progress", "in_progress"),
        ("In Progress", "in_progress"),
        ("InProgress", "in_progress"),
        ("queued", "validating"),
        ("Validating", "validating"),
        ("error", "failed"),
        ("quantum_leap", "quantum_leap"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_status_is_known_in_every_spelling(told: str | None, status: str) -> None:
    """Off: a batch that is told to be `Completed` never ends."""
    assert provider_batch(batch(status=told)).status == status, "it is not known"


def test_what_cannot_be_read_hides_nothing_else_of_a_page() -> None:
    page = [batch(), None, batch(None), batch("nul\0"), batch("batch_2", created_at=None)]  # type: ignore[arg-type]
    assert [each.id for each in readable("batch", provider_batch, page)] == ["batch_1", "batch_2"]


class Pages(ProviderClient):
    """A client whose account holds these pages; each batch is given by its age in hours, None if unknown."""

    def __init__(self, pages: Sequence[Sequence[int | None]]) -> None:
        self.pages = pages

    async def page(self, after: str | None) -> tuple[list[ProviderBatch], str | None]:
        number = int(after or 0)
        ages = self.pages[number % len(self.pages)]
        times = [None if age is None else (NOW - timedelta(hours=age)).timestamp() for age in ages]
        found = [provider_batch(batch(f"{number}-{place}", created_at=at)) for place, at in enumerate(times)]
        return found, str(number + 1) if number + 1 < len(self.pages) else None


@pytest.mark.parametrize(
    ("pages", "read"),
    [
        ([[1, 2], [3, 30], [31]], 5),
        ([[1, 2], [30, 31], [32]], 4),
        ([[1, 2], [3, None], [31], [32]], 5),
        ([[30, 1], [31, 2], [32], [33]], 5),
        ([[None], [None], [None]], 3),
    ],
)
async def test_a_scan_goes_back_as_long_as_anything_may_be_recent(pages: list[list[int | None]], read: int) -> None:
    moves: list[None] = []
    listed = await Pages(pages).back_to(NOW - timedelta(hours=26), lambda: moves.append(None))
    assert (len(listed.batches), listed.gap) == (read, None)
    assert moves, "a scan of many pages would outlast its lease"


async def test_a_scan_without_an_end_is_not_taken_for_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGES_MAX", 2)
    listed = await Pages([[1], [2], [3]]).back_to(NOW - timedelta(hours=26))
    assert (len(listed.batches), str(listed.gap)) == (2, "batches.list: error: more than 2 pages")


class Files(ProviderClient):
    """A client whose server never says that its list of files ends; it shows the same one again, or new ones."""

    def __init__(self, *, same: bool) -> None:
        self.same = same
        self.pages = 0

    async def page_of_files(self, before: Any | None) -> Any:
        del before
        self.pages += 1
        name = f"file-{1 if self.same else self.pages}"
        file = SimpleNamespace(id=name, filename=name, bytes=1, created_at=1, purpose="batch", status="processed")
        return SimpleNamespace(data=[file], has_next_page=lambda: True)


class Listing(ProviderClient):
    """A client whose server lists these pages, each with what it says of whether there is more."""

    def __init__(self, pages: Sequence[tuple[Sequence[str], bool | None]]) -> None:
        self.pages = list(pages)
        self.page_sizes = {"batches.list": [100, 20]}
        self.sdk = cast("Any", SimpleNamespace(batches=SimpleNamespace(list=None)))

    async def sized(self, operation: str, ask: object) -> Any:  # noqa: ARG002 - as the real one
        ids, more = self.pages.pop(0)
        return SimpleNamespace(data=[batch(each) for each in ids], has_more=more)


async def test_a_list_that_does_not_say_whether_there_is_more_is_read_until_it_is_empty() -> None:
    client = Listing([(["1", "2"], None), (["3"], None), ([], None)])
    listed = await client.back_to(NOW - timedelta(hours=26))
    assert ([each.id for each in listed.batches], listed.gap) == (["1", "2", "3"], None)


async def test_a_list_that_repeats_itself_without_an_end_proves_nothing() -> None:
    client = Listing([(["1", "2"], None), (["1", "2"], None)])
    listed = await client.back_to(NOW - timedelta(hours=26))
    assert [each.id for each in listed.batches] == ["1", "2"], "what it shows is there"
    assert "repeat" in str(listed.gap)


@pytest.mark.outcome("files-endless")
@pytest.mark.parametrize("same", [True, False], ids=["repeats", "goes-on"])
async def test_a_list_of_files_without_an_end_ends_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, *, same: bool
) -> None:
    monkeypatch.setattr(module, "PAGES_MAX", 4)
    client = Files(same=same)

    async def read() -> list[str]:
        return [file.name async for file in client.files(nothing)]

    with pytest.raises(ProviderUnavailable, match="repeat" if same else "more than 4 pages"):
        await read()
    assert client.pages == (2 if same else 4)


async def test_who_takes_no_large_page_is_asked_for_small_ones_from_then_on() -> None:
    client, asked = ProviderClient(ProviderSettings()), []

    async def ask(size: int) -> int:
        asked.append(size)
        if size > 100:
            raise openai.BadRequestError("too many", response=httpx2.Response(400, request=REQUEST), body=None)
        return size

    assert [await client.sized("files.list", ask) for _ in range(2)] == [100, 100]
    assert asked == [10_000, 100, 100]
    await client.close()


def test_who_met_nobody_and_has_not_called_since_no_longer_says_that_the_provider_is_away() -> None:
    client = ProviderClient(ProviderSettings(account="rests"))

    def away() -> float | None:
        return REGISTRY.get_sample_value("penstock_provider_away", {"account": "rests"})

    client.count("batches.list", ProviderUnavailable("batches.list", "nobody is there"))
    assert away() == 1
    client.unanswered_at -= AWAY_SECONDS
    assert away() == 0


@pytest.mark.parametrize(("creates", "raised"), [(False, ProviderUnavailable), (True, ProviderInDoubt)])
async def test_no_call_takes_longer_than_the_time_out_whatever_the_sdk_does_meanwhile(
    *, creates: bool, raised: type[ProviderError]
) -> None:
    client = ProviderClient(ProviderSettings())
    client.settings = client.settings.model_copy(update={"timeout_seconds": 0.05})
    with pytest.raises(raised):
        await client.call("batches.test", lambda: asyncio.sleep(60), creates=creates)
    assert await client.call("batches.test", lambda: asyncio.sleep(0.1, 7), creates=creates, seconds=60) == 7
    await client.close()


@pytest.mark.parametrize("creates", [False, True])
async def test_an_answer_that_is_no_json_is_as_none(*, creates: bool) -> None:
    client = ProviderClient(ProviderSettings())

    async def page() -> str:
        return "<html>Sign in to the hotel's network</html>"

    async def undecodable() -> None:
        json.loads(await page())

    for answer in (page, undecodable):
        with pytest.raises(ProviderInDoubt if creates else ProviderUnavailable):
            await client.call("batches.test", answer, creates=creates)
    await client.close()


@pytest.mark.parametrize(("auth", "sent"), [("key", b"bearer sk-test"), ("none", None)])
async def test_where_no_key_is_taken_none_is_sent(auth: str, sent: bytes | None) -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).lower())
        body = b'{"object": "list", "data": []}'
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    settings = {"base_url": f"http://{host}:{port}/v1", "api_key": "sk-test", "auth": auth}
    client = ProviderClient(ProviderSettings.model_validate(settings))
    await client.page(None)
    await client.close()
    server.close()
    [head] = heads
    names = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    assert names.get(b"authorization") == sent


@asynccontextmanager
async def answering(answer: bytes, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that sends these bytes to everybody and closes; with none of them it only closes. Yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(100)
            writer.write(answer)
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def told(base_url: str, **settings: Any) -> str:
    """What is said of a provider that cannot be reached, by reads and by creates alike."""
    client = ProviderClient(ProviderSettings.model_validate({"base_url": base_url, "api_key": "sk-canary", **settings}))
    client.sdk.max_retries = 0
    details = set()
    create = partial(client.create, file_id="f", endpoint="e", completion_window="24h", metadata={})
    for call in (partial(client.page, None), create):
        with pytest.raises((ProviderUnavailable, ProviderInDoubt)) as raised:
            await call()
        assert "sk-canary" not in str(raised.value)
        details.add(raised.value.detail)
    await client.close()
    [detail] = details
    return detail


async def test_a_provider_that_is_not_there_is_named_with_the_reason() -> None:
    assert await told("http://127.0.0.1:1/v1") == "127.0.0.1:1: connection refused"
    assert await told("https://no-such-host.invalid/v1") == "no-such-host.invalid:443: host name not found"


async def test_a_provider_that_closes_the_connection_is_named() -> None:
    async with answering(b"") as port:
        assert await told(f"http://127.0.0.1:{port}/v1") == f"127.0.0.1:{port}: connection closed midway"
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{") as port:
        assert await told(f"http://127.0.0.1:{port}/v1") == f"127.0.0.1:{port}: connection closed midway"
    async with answering(b"SSH-2.0-OpenSSH\r\n") as port:
        where = f"127.0.0.1:{port}"
        assert await told(f"https://{where}/v1") == f"{where}: the server does not speak TLS on this port"


async def test_a_provider_whose_certificate_is_not_trusted_is_named(tmp_path: Path) -> None:
    await asyncio.to_thread(certificates, tmp_path, "server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    async with answering(b"", tls=context) as port:
        detail = await told(f"https://127.0.0.1:{port}/v1")
    assert detail == f"127.0.0.1:{port}: certificate not trusted: unable to get local issuer certificate"


async def test_a_provider_that_does_not_answer_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        detail = await told(f"http://127.0.0.1:{port}/v1", timeout_seconds=0.2)
    assert detail == f"127.0.0.1:{port}: timed out"


async def test_a_proxy_on_the_way_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:canary@127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    detail = await told("http://provider.invalid/v1")
    assert detail == "provider.invalid:80 through the proxy 127.0.0.1:1: connection refused"


async def test_an_answer_that_is_no_json_names_who_gave_it() -> None:
    body = b"<html>Sign in</html>"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
    async with answering(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)) as port:
        detail = await told(f"http://127.0.0.1:{port}/v1")
    assert detail == f"127.0.0.1:{port}: the answer is no JSON"


async def test_a_key_that_no_header_takes_is_not_told() -> None:
    async with answering(b"") as port:
        detail = await told(f"http://127.0.0.1:{port}/v1", api_key="sk-canary\nx")
    assert detail == f"127.0.0.1:{port}: the request cannot be sent (LocalProtocolError)"
