"""A receiver of webhooks that keeps what comes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

SECRET = "whsec_c2VjcmV0"
WAIT_SECONDS = 60.0


class Webhook(NamedTuple):
    """What was posted."""

    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Answers each webhook with the next of `statuses`, then with 204."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    received: list[Webhook] = field(default_factory=list)

    async def take(self, count: int) -> list[Webhook]:
        """The webhooks so far, once there are so many; the next call begins anew."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.received) < count:
                await asyncio.sleep(0.005)
        taken, self.received = self.received, []
        return taken

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one POST."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[1:-1]
        headers = dict(line.split(": ", 1) for line in head)
        self.received.append(Webhook(headers, await reader.readexactly(int(headers["content-length"]))))
        status = self.statuses.pop(0) if self.statuses else 204
        writer.write(f"HTTP/1.1 {status} Status\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def opened_receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/webhooks"
    async with server:
        yield receiver
