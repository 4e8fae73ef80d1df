"""Sessions of Postgres that must not be used again, and servers that take no writes."""

import asyncpg
import pytest

from penstock.postgres.database import SESSION_LOST, loses_session
from penstock.postgres.reach import ReadOnlyServer
from tests.support.rows import opened


async def test_a_session_that_has_become_read_only_is_not_used_again_nor_are_the_others(database: str) -> None:
    async with opened(database, connections_max=2) as pool:
        async with pool.transaction() as first, pool.transaction() as second:
            before = {await each.raw.fetchval("SELECT pg_backend_pid()") for each in (first, second)}
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            async with pool.transaction() as connection:
                await connection.raw.execute("SET TRANSACTION READ ONLY; CREATE TABLE t ()")
        async with pool.transaction() as first, pool.transaction() as second:
            after = {await each.raw.fetchval("SELECT pg_backend_pid()") for each in (first, second)}
        assert not before & after


async def test_a_server_that_takes_no_writes_is_refused_unless_the_dsn_takes_it(database: str) -> None:
    name = database.rpartition("/")[2]
    async with opened(database) as pool, pool.pool.acquire() as raw:
        await raw.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(ReadOnlyServer, match=r"Postgres at 127\.0\.0\.1:\d+ is a read-only standby") as refused:
        async with opened(database):
            pass
    assert database.split(":")[2].partition("@")[0] not in str(refused.value), "the password"
    async with opened(f"{database}?target_session_attrs=any") as pool, pool.transaction() as connection:
        assert await connection.raw.fetchval("SELECT 1") == 1


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (asyncpg.ReadOnlySQLTransactionError, True),
        (asyncpg.AdminShutdownError, True),
        (asyncpg.CrashShutdownError, True),
        (asyncpg.CannotConnectNowError, True),
        (asyncpg.DatabaseDroppedError, True),
        (asyncpg.ConnectionFailureError, True),
        (asyncpg.IdleInTransactionSessionTimeoutError, True),
        (asyncpg.QueryCanceledError, False),
        (asyncpg.SerializationError, False),
        (asyncpg.UniqueViolationError, False),
        (asyncpg.LockNotAvailableError, False),
    ],
)
def test_which_errors_lose_the_session(error: type[asyncpg.PostgresError], lost: bool) -> None:
    assert loses_session(error("")) == lost, SESSION_LOST
