"""A pooler in transaction mode, as PgBouncer is: between two transactions a client has no session of its own."""

import asyncio
import random
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

PROTOCOL_3 = 196608
CLEARTEXT_PASSWORD = 3
IDLE = b"I"
READY = b"Z" + struct.pack("!I", 5) + IDLE
GOODBYE = b"X"
SERVERS = 4


class Server:
    """A session of the real server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.greeting: list[bytes] = []


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """One message with its kind and length."""
    head = await reader.readexactly(5)
    return head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


async def log_in(dsn: str) -> Server:
    """Open a session with the user and password of a DSN, and keep what the server says of itself."""
    url = urlsplit(dsn)
    server = Server(*await asyncio.open_connection(url.hostname, url.port))
    names = {"user": url.username or "", "database": url.path[1:], "client_encoding": "utf-8"}
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in names.items()) + b"\0"
    server.writer.write(struct.pack("!II", len(body) + 8, PROTOCOL_3) + body)
    while (message := await read_message(server.reader))[:1] != b"Z":
        assert message[:1] != b"E", message
        if message[:1] == b"R" and struct.unpack("!I", message[5:9])[0] == CLEARTEXT_PASSWORD:
            password = (url.password or "").encode() + b"\0"
            server.writer.write(b"p" + struct.pack("!I", len(password) + 4) + password)
        elif message[:1] in (b"S", b"K"):
            server.greeting.append(message)
    return server


class Pooler:
    """Lends a client a server for each transaction; never the same twice in a row."""

    def __init__(self, servers: list[Server]) -> None:
        self.free = servers
        self.lent = asyncio.Semaphore(len(servers) - 1)
        self.transactions = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client until it goes."""
        length = struct.unpack("!I", await reader.readexactly(4))[0]
        await reader.readexactly(length - 4)
        greeting = [b"R" + struct.pack("!II", 8, 0), *self.free[0].greeting, READY]
        writer.write(b"".join(greeting))
        asked: asyncio.Queue[bytes] = asyncio.Queue()
        listening = asyncio.create_task(listen(reader, asked))
        last: Server | None = None
        while (first := await asked.get())[:1] != GOODBYE:
            async with self.lent:
                server = random.choice([each for each in self.free if each is not last])
                self.free.remove(server)
                server.writer.write(first)
                asking = asyncio.create_task(pass_on(asked, server.writer))
                await answer(server.reader, writer)
                asking.cancel()
                self.free.append(server)
                self.transactions += 1
                last = server
        listening.cancel()
        writer.close()


async def listen(reader: asyncio.StreamReader, asked: asyncio.Queue[bytes]) -> None:
    """Read what a client says; when it is gone it has said goodbye."""
    try:
        while True:
            await asked.put(await read_message(reader))
    except (asyncio.IncompleteReadError, OSError):
        await asked.put(GOODBYE)


async def pass_on(asked: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
    """Send a server what a client says, until its transaction is over and this is cancelled."""
    while (message := await asked.get())[:1] != GOODBYE:
        writer.write(message)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a client what a server says, until that is ready for anybody's next transaction."""
    while True:
        message = await read_message(reader)
        writer.write(message)
        if message == READY:
            return


@asynccontextmanager
async def transaction_pooler(dsn: str) -> AsyncIterator[tuple[str, Pooler]]:
    """The DSN of a pooler before a database, and the pooler."""
    pooler = Pooler([await log_in(dsn) for _ in range(SERVERS)])
    listener = await asyncio.start_server(pooler.serve, "127.0.0.1", 0)
    url = urlsplit(dsn)
    try:
        port = listener.sockets[0].getsockname()[1]
        yield f"postgresql://{url.username}:{url.password}@127.0.0.1:{port}{url.path}", pooler
    finally:
        listener.close()
        for server in pooler.free:
            server.writer.close()
