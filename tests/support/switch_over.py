"""A Postgres primary with a streaming standby, behind one address."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from penstock.embedded.postgres import UNPRIVILEGED_USER, EmbeddedPostgres, binaries, is_root
from penstock.embedded.server import free_port, run
from tests.support.without_ids import pump


class Node(EmbeddedPostgres):
    """One server of a pair."""

    @property
    def own_dsn(self) -> str:
        """This server, by its own port."""
        return f"postgresql://postgres:{self.password_file.read_text()}@127.0.0.1:{self.port}/postgres"

    async def follow(self, primary: "Node") -> None:
        """Become a standby of another node, from a copy of it if this one has no data yet."""
        if not self.data.exists():
            self.data.mkdir(mode=0o700, parents=True)
            shutil.copy2(primary.password_file, self.password_file)
            if is_root():
                for path in (self.folder, self.data, self.password_file):
                    shutil.chown(path, UNPRIVILEGED_USER)
            command = [str(binaries() / "pg_basebackup"), "-D", self.data_argument, "-d", primary.own_dsn, "-c", "fast"]
            await asyncio.to_thread(run, command, **self.process_options())
        signal_file = self.data / "standby.signal"
        signal_file.touch()
        if is_root():
            shutil.chown(signal_file, UNPRIVILEGED_USER)
        self.settings["primary_conninfo"] = primary.own_dsn
        await self.start()

    async def promote(self) -> None:
        """Become the primary."""
        connection = await asyncpg.connect(self.own_dsn)
        try:
            assert await connection.fetchval("select pg_promote()")
        finally:
            await connection.close()


class Pair(Node):
    """A primary and its standby; ``dsn`` is one address that leads to either, as a Kubernetes Service does."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "first", fsync=False)
        self.second = Node(folder / "second", fsync=False)
        self.address = free_port()
        self.target = self.port
        """Where new connections to the address lead; the others stay."""

    @property
    def dsn(self) -> str:
        """The address."""
        return self.own_dsn.replace(f":{self.port}/", f":{self.address}/")

    async def switch_over(self) -> None:
        """Stop the primary, promote the standby, and bring the first one back as a standby behind the same address."""
        await self.stop()
        await self.second.promote()
        await self.follow(self.second)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on, both ways."""
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(passed(reader, there_writer), passed(there_reader, writer))


async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass one direction on to its end, and close the other side then."""
    with contextlib.suppress(OSError):
        await pump(reader, writer)
    writer.close()


@asynccontextmanager
async def open_pair(folder: Path) -> AsyncIterator[Pair]:
    """Both servers, the second one streaming from the first."""
    pair = Pair(folder)
    try:
        async with await asyncio.start_server(pair.connected, "127.0.0.1", pair.address):
            await pair.start()
            await pair.second.follow(pair)
            yield pair
    finally:
        await pair.second.kill()
        await pair.kill()
