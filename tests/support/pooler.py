"""Poolers in transaction mode, between whose transactions a client has no session: PgBouncer, and a stricter one."""

import asyncio
import os
import random
import secrets
import shutil
import signal
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import asyncpg

from penstock.embedded.postgres import UNPRIVILEGED_USER, is_root
from penstock.embedded.server import EmbeddedServer, free_port

PROTOCOL_3 = 196608
CANCEL = 80877102
CLEARTEXT_PASSWORD = 3
IDLE = b"I"
READY = b"Z" + struct.pack("!I", 5) + IDLE
GOODBYE = b"X"
SERVERS = 8
GONE = (asyncio.IncompleteReadError, OSError)
BOUNCER = """
[databases]
* = host={url.hostname} port={url.port} user={url.username} password={url.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {servers}
max_client_conn = 1000
"""


@dataclass(eq=False, slots=True)
class Server:
    """A session of the real server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    parameters: list[bytes] = field(default_factory=list)
    key: bytes = b""
    """What cancels its query."""


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """One message with its kind and length."""
    head = await reader.readexactly(5)
    return head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


async def log_in(dsn: str) -> Server:
    """Open a session with the user and password of a DSN, and keep what the server says of itself."""
    url = urlsplit(dsn)
    server = Server(*await asyncio.open_connection(url.hostname, url.port))
    try:
        await authenticate(server, url)
    except BaseException:
        server.writer.close()
        raise
    return server


async def authenticate(server: Server, url: SplitResult) -> None:
    """Say who we are, and hear what the server says of itself."""
    names = {"user": url.username or "", "database": url.path[1:], "client_encoding": "utf-8"}
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in names.items()) + b"\0"
    server.writer.write(struct.pack("!II", len(body) + 8, PROTOCOL_3) + body)
    while (message := await read_message(server.reader))[:1] != b"Z":
        if message[:1] == b"E":
            raise ConnectionRefusedError(message)
        if message[:1] == b"R" and struct.unpack("!I", message[5:9])[0] == CLEARTEXT_PASSWORD:
            password = (url.password or "").encode() + b"\0"
            server.writer.write(b"p" + struct.pack("!I", len(password) + 4) + password)
        elif message[:1] == b"S":
            server.parameters.append(message)
        elif message[:1] == b"K":
            server.key = message[5:]


class Pooler:
    """Lends a client a server for each transaction; never the same twice in a row."""

    def __init__(self, dsn: str, first: Server) -> None:
        self.dsn = dsn
        self.parameters = first.parameters
        self.free = [first]
        self.room = asyncio.Semaphore(SERVERS - 1)
        self.lent: dict[bytes, Server] = {}
        self.serving: set[asyncio.Task[None]] = set()
        self.transactions = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client until it goes, or until the server does."""
        serving = asyncio.current_task()
        assert serving is not None, "a client is served by a task"
        self.serving.add(serving)
        try:
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            opening = await reader.readexactly(length - 4)
            if struct.unpack("!I", opening[:4])[0] == CANCEL:
                await self.cancel(opening[4:])
            else:
                await self.talk(reader, writer)
        except GONE:
            pass  # closing is all that is left to do
        finally:
            writer.close()
            self.serving.discard(serving)

    async def cancel(self, key: bytes) -> None:
        """End what the server does for the client with this key."""
        if server := self.lent.get(key):
            url = urlsplit(self.dsn)
            _, writer = await asyncio.open_connection(url.hostname, url.port)
            writer.write(struct.pack("!II", 8 + len(server.key), CANCEL) + server.key)
            writer.close()
            await writer.wait_closed()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Greet a client and serve its transactions."""
        key = secrets.token_bytes(8)
        greeting = [b"R" + struct.pack("!II", 8, 0), *self.parameters, b"K" + struct.pack("!I", 12) + key, READY]
        writer.write(b"".join(greeting))
        asked: asyncio.Queue[bytes] = asyncio.Queue()
        listening = asyncio.create_task(listen(reader, asked))
        last: Server | None = None
        try:
            while (first := await asked.get())[:1] != GOODBYE:
                async with self.room:
                    self.lent[key] = last = await self.server_beside(last)
                    whole = False
                    try:
                        whole = await transact(first, asked, last, writer)
                    finally:
                        del self.lent[key]
                        if not whole:
                            last.writer.close()  # the server rolls back
                    if not whole:
                        return
                    self.free.append(last)
                    self.transactions += 1
        finally:
            listening.cancel()

    async def server_beside(self, last: Server | None) -> Server:
        """A free server, or a new one, other than the last one."""
        if others := [each for each in self.free if each is not last and not each.writer.is_closing()]:
            server = random.choice(others)
            self.free.remove(server)
            return server
        return await log_in(self.dsn)


async def transact(first: bytes, asked: asyncio.Queue[bytes], server: Server, writer: asyncio.StreamWriter) -> bool:
    """One transaction; whether it came to its end, and neither client nor server went away in the middle."""
    server.writer.write(first)
    asking = asyncio.create_task(pass_on(asked, server.writer))
    answering = asyncio.create_task(answer(server.reader, writer))
    try:
        await asyncio.wait([asking, answering], return_when=asyncio.FIRST_COMPLETED)
        return answering.done() and answering.exception() is None
    finally:
        asking.cancel()
        answering.cancel()


async def listen(reader: asyncio.StreamReader, asked: asyncio.Queue[bytes]) -> None:
    """Read what a client says; when it is gone it has said goodbye."""
    try:
        while True:
            await asked.put(await read_message(reader))
    except GONE:
        await asked.put(GOODBYE)


async def pass_on(asked: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
    """Send a server what a client says, until that goes, or its transaction is over and this is cancelled."""
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
    pooler = Pooler(dsn, await log_in(dsn))
    listener = await asyncio.start_server(pooler.serve, "127.0.0.1", 0)
    try:
        yield through(dsn, listener.sockets[0].getsockname()[1]), pooler
    finally:
        listener.close()
        for serving in pooler.serving:
            serving.cancel()
        await asyncio.gather(*pooler.serving, return_exceptions=True)
        for server in pooler.free:
            server.writer.close()


class PgBouncer(EmbeddedServer):
    """PgBouncer in transaction mode before a database."""

    name = "PgBouncer"
    stop_signal = signal.SIGTERM
    orphan_signal = signal.SIGTERM

    def __init__(self, program: str, folder: Path, dsn: str) -> None:
        super().__init__(folder)
        self.program = program
        self.server_dsn = dsn
        self.dsn = through(dsn, free_port())
        self.settings = self.folder / "pgbouncer.ini"

    def prepare(self) -> None:
        """Write its settings."""
        self.folder.mkdir(parents=True, exist_ok=True)
        url = urlsplit(self.server_dsn)
        self.settings.write_text(BOUNCER.format(url=url, port=urlsplit(self.dsn).port, servers=SERVERS))

    def command(self) -> Sequence[str]:
        """It refuses to run as root, and reads its settings before it becomes somebody else."""
        return [self.program, *(["-u", UNPRIVILEGED_USER] if is_root() else []), str(self.settings)]

    async def answers(self) -> bool:
        """Whether a query is answered."""
        try:
            connection = await asyncpg.connect(self.dsn, statement_cache_size=0)
        except (OSError, asyncpg.PostgresConnectionError):
            return False
        await connection.close()
        return True


def through(dsn: str, port: int) -> str:
    """A DSN by way of another port of this machine."""
    url = urlsplit(dsn)
    return f"postgresql://{url.username}:{url.password}@127.0.0.1:{port}{url.path}?sslmode=disable"


@asynccontextmanager
async def any_pooler(dsn: str, folder: Path) -> AsyncIterator[str]:
    """The DSN of PgBouncer before a database, where that is installed, else of ours."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if program is None:
        async with transaction_pooler(dsn) as (pooled, _):
            yield pooled
        return
    bouncer = PgBouncer(program, folder, dsn)
    await bouncer.start()
    try:
        yield bouncer.dsn
    finally:
        await bouncer.stop()
