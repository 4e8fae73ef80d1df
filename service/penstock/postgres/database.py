"""The pool, transactions, and the one guard that fences writes by lease."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import asyncpg

from penstock.core.errors import PenstockError, Superseded
from penstock.postgres.dsn import read_target
from penstock.postgres.queries import queries
from penstock.postgres.reach import PostgresRefused, connect
from penstock.settings import PostgresSettings, Settings
from penstock.telemetry import metrics
from penstock.telemetry.failpoint import failpoint

COMMAND_SECONDS = 60.0
IDLE_SECONDS = 30.0
"""A transaction in which nothing moves for so long is ended by the server: its replica sleeps or is cut off."""
Record = asyncpg.Record
TRANSIENT = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the connection broke in the middle of a transaction's end
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # the server starts or stops
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,  # the janitor waits for no reader of a table that it wants to empty
    asyncpg.ReadOnlySQLTransactionError,  # the server has become a standby
)
"""What is raised while the server is away, coming up, full, or busy with somebody else: it passes by itself."""


SESSION_LOST = ("08", "57P", "25006", "25P03", "25P04")
"""SQLSTATEs, or how they begin, after which a connection is not used again.

The connection failed (08), the server ends or has ended the session (57P, 25P03, 25P04), or the server has become
read-only (25006). Behind a pooler the connection to the pooler outlives them all.
"""
READ_ONLY = "25006"


@dataclass(frozen=True, slots=True)
class Away:
    """The database cannot be used."""

    since: datetime
    reason: str


def loses_session(error: asyncpg.PostgresError) -> bool:
    """Whether the connection that the error came over must not be used again."""
    return str(error.sqlstate).startswith(SESSION_LOST)


def database_away(error: Exception) -> bool:
    """Whether the error is no batch's own; a value that Postgres' client refuses is one."""
    return isinstance(error, TRANSIENT) and not isinstance(error, ValueError)


class Held(Protocol):
    """What a guarded write needs to know of a lease."""

    @property
    def name(self) -> str:
        """The lease's name."""

    @property
    def epoch(self) -> int:
        """The epoch that the holder was given."""


class Connection:
    """A connection inside a transaction; queries are called by name."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    async def fetch(self, name: str, *args: object) -> list[Record]:
        """All rows of a query."""
        rows: list[Record] = await self.raw.fetch(queries()[name], *args)
        return rows

    async def row(self, name: str, *args: object) -> Record | None:
        """The first row of a query, or None."""
        found: Record | None = await self.raw.fetchrow(queries()[name], *args)
        return found

    async def value(self, name: str, *args: object) -> Any:
        """The first column of the first row, or None."""
        return await self.raw.fetchval(queries()[name], *args)

    async def execute(self, name: str, *args: object) -> int:
        """Run a statement; returns the count of rows it touched."""
        tag: str = await self.raw.execute(queries()[name], *args)
        return int(tag.rpartition(" ")[2]) if tag[-1].isdigit() else 0


class Database:
    """A small pool of connections to the one database.

    Args:
        settings: the DSN is read again for each new connection, so a rotated password is taken up.
        application: shown in `pg_stat_activity`.
        idle_seconds: how long an open transaction may be idle before it loses its locks.
    """

    def __init__(self, settings: PostgresSettings, application: str, idle_seconds: float = IDLE_SECONDS) -> None:
        self.settings = settings
        self.idle_seconds = idle_seconds
        self.session = {
            "application_name": application,
            "idle_in_transaction_session_timeout": str(int(idle_seconds * 1000)),
        }
        self.pool: Any = None
        self.connections = 0
        """Made so far. What follows a new one may be another server, or an older state of it."""
        self.away: Away | None = None
        """Since when no connection can be made, and why; None after one that was made, or a transaction that ended."""

    @failpoint("start.database")
    async def open(self) -> None:
        """Open the pool.

        Raises:
            PostgresAway, PostgresRefused, FileUnreadable, ConfigurationError: see `connect`.
        """
        self.pool = await asyncpg.create_pool(
            min_size=1,
            max_size=self.settings.connections_max,
            connect=self.connect,
            init=prepare_connection,
            reset=keep_session if not self.settings.statement_cache else None,
        )

    async def connect(self, *_: object, **options: Any) -> Any:
        """Make one connection with the secrets as they are now, to a server that takes writes.

        Raises:
            PostgresAway, PostgresRefused: there is none; each host is named with its reason.
            FileUnreadable: a secret or a file of TLS cannot be read.
            ConfigurationError: the DSN is wrong.
        """
        self.connections += 1
        options |= {
            "command_timeout": COMMAND_SECONDS,
            "server_settings": self.session if self.settings.statement_cache else None,
        }
        if not self.settings.statement_cache:
            options["statement_cache_size"] = 0
        try:
            if (password := self.settings.read_password()) is not None:
                options["password"] = password
            target = read_target(self.settings.read_dsn(), self.settings.dsn_variable)
            connection = await connect(target, TRANSIENT, **options)
        except (*TRANSIENT, PostgresRefused) as error:
            self.note_away(error)
            raise
        self.away = None
        return connection

    def note_away(self, error: Exception) -> None:
        """Remember since when no connection can be made."""
        since = self.away.since if self.away else datetime.now(UTC)
        self.away = Away(since, str(error) if isinstance(error, PenstockError) else f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        """Close the pool, without waiting for ever for what is in use."""
        if self.pool is not None:
            try:
                async with asyncio.timeout(5):
                    await self.pool.close()
            except TimeoutError:
                self.pool.terminate()

    @asynccontextmanager
    async def transaction(self, lease: Held | None = None) -> AsyncIterator[Connection]:
        """A READ COMMITTED transaction, fenced by a lease when one is given (B1).

        Raises:
            Superseded: the lease is no longer ours; nothing was written.
        """
        async with self.acquired() as raw, raw.transaction():
            connection = Connection(raw)
            if lease is not None and await connection.row("guard_lease", lease.name, lease.epoch) is None:
                raise Superseded(f"lease {lease.name} is no longer ours")
            yield connection
        self.away = None

    @asynccontextmanager
    async def acquired(self) -> AsyncIterator[Any]:
        """A connection of the pool, which does not get it back when an error says that its session is lost."""
        started = time.monotonic()
        async with self.pool.acquire() as raw:
            metrics.pool_wait.observe(time.monotonic() - started)
            try:
                yield raw
            except asyncpg.PostgresError as error:
                if loses_session(error):
                    raw.terminate()
                if error.sqlstate == READ_ONLY:  # so are the other connections
                    await self.pool.expire_connections()
                raise

    async def fetch(self, name: str, *args: object) -> list[Record]:
        """All rows of one query, in a transaction of its own."""
        async with self.transaction() as connection:
            return await connection.fetch(name, *args)


async def prepare_connection(connection: Any) -> None:
    """Read and write JSON columns as Python values."""
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


async def keep_session(connection: Any) -> None:
    """Behind a transaction-mode pooler there is no session to reset."""


def columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as columns, for `unnest`."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """The deployment's database, open."""
    database = Database(settings.postgres, f"penstock-{settings.deployment}")
    await database.open()
    try:
        yield database
    finally:
        await database.close()
