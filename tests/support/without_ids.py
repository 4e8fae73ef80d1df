"""A proxy before a broker that takes the topic ids out of its answers, as brokers answer that keep none."""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import UUID

CHUNK = 1 << 16


@asynccontextmanager
async def without_ids(port: int, topic_ids: Iterable[UUID]) -> AsyncIterator[int]:
    """The port of the proxy.

    Args:
        port: the broker's, on the loopback address, under which clients would go on.
        topic_ids: that become zero.
    """
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", port)
        pumps = (asyncio.create_task(pump(reader, here)), asyncio.create_task(answers(there, writer)))
        tasks.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        writer.close()
        here.close()

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own: int = server.sockets[0].getsockname()[1]
        while True:
            try:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                answer = await reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            for each in topic_ids:
                answer = answer.replace(each.bytes, bytes(16))
            answer = answer.replace(b"127.0.0.1" + struct.pack(">i", port), b"127.0.0.1" + struct.pack(">i", own))
            writer.write(struct.pack(">i", size) + answer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until they end."""
    while data := await reader.read(CHUNK):
        writer.write(data)
