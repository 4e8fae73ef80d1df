import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from penstock.core.batch import Hint
from penstock.http import webhook as module
from penstock.http.server import HttpServer
from penstock.http.webhook import BODY_BYTES_MAX, PATH, Receiver, webhook_application

HEAD = "POST /webhooks HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n"


class Listening:
    """A receiver that believes everything."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.noted: list[Hint] = []
        self.port = 0

    def read(self, body: bytes, _: Mapping[str, str]) -> Hint | None:
        self.bodies.append(body)
        return Hint("wh_1", "batch_1")

    async def note(self, hint: Hint) -> bool:
        self.noted.append(hint)
        if len(self.noted) > 1:
            await asyncio.sleep(3600)
        return True

    async def say(self, *parts: bytes) -> int:
        """Send bytes; the status of the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.writelines(parts)
        status = int((await reader.readline()).split()[1])
        writer.close()
        await writer.wait_closed()
        return status


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    receiver = Listening()
    server = HttpServer("127.0.0.1", 0, webhook_application({PATH: Receiver(receiver.read, receiver.note)}))
    receiver.port = await server.start()
    yield receiver
    await server.stop()


def head(size: int) -> bytes:
    return HEAD.format(size).encode()


async def test_a_body_of_the_largest_size_is_read_as_it_is_and_one_byte_more_is_refused(listening: Listening) -> None:
    body = b"\xff" * BODY_BYTES_MAX
    assert await listening.say(head(len(body)), body) == 204
    assert await listening.say(head(len(body) + 1), body, b"x") == 413
    assert listening.bodies == [body]


async def test_a_body_that_does_not_come_is_not_waited_for(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECEIVE_SECONDS", 0.1)
    assert await listening.say(head(10), b"half") == 408
    assert not listening.bodies


async def test_an_answer_does_not_wait_for_a_database_that_hangs(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STORE_SECONDS", 0.1)
    assert [await listening.say(head(2), b"{}") for _ in range(2)] == [204, 503]
