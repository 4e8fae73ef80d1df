"""What is said of a Postgres that cannot be used: which hosts, why, and what to look at; never the password."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from penstock.core.errors import PenstockError
from penstock.embedded.postgres import EmbeddedPostgres
from penstock.postgres.database import database_away
from penstock.postgres.reach import PostgresAway, PostgresRefused
from tests.support.bridge import Bridge
from tests.support.command import penstock
from tests.support.rows import opened

VARIABLE = "PENSTOCK_POSTGRES_DSN"


async def told(dsn: str) -> PenstockError:
    """What is raised for a DSN that leads nowhere."""
    with pytest.raises((PostgresAway, PostgresRefused)) as raised:
        async with opened(dsn):
            pass
    password = urlsplit(dsn).netloc.split(":", 1)[1].partition("@")[0]
    assert password not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert database_away(raised.value) == isinstance(raised.value, PostgresAway)
    return raised.value


def place_of(dsn: str) -> str:
    return urlsplit(dsn).netloc.rpartition("@")[2]


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[str]:
    """A server that answers the first bytes, and closes; with None it never answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(8)
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_server_that_is_not_there_is_named(database: str) -> None:
    refused = database.replace(place_of(database), "127.0.0.1:1")
    assert str(await told(refused)) == (
        f"cannot reach Postgres at 127.0.0.1:1: connection refused. Check the host and the port in {VARIABLE}, and that"
        " the server runs."
    )
    unknown = database.replace(place_of(database), "no-such-host.invalid")
    assert str(await told(unknown)) == (
        f"cannot reach Postgres at no-such-host.invalid:5432: host name not found. Check the host name in {VARIABLE}."
    )


async def test_a_server_that_does_not_answer_or_ends_the_connection_is_named(database: str) -> None:
    async with answering(None) as silent, answering(b"") as short:
        assert str(await told(database.replace(place_of(database), silent) + "?connect_timeout=2")) == (
            f"cannot reach Postgres at {silent}: no answer in 2 s. Check the host and the port in {VARIABLE}, and the"
            " firewalls on the way."
        )
        assert str(await told(database.replace(place_of(database), short) + "?sslmode=require")) == (
            f"cannot reach Postgres at {short}: connection closed midway. Check the host, the port and sslmode in"
            f" {VARIABLE}."
        )


async def test_a_server_without_tls_is_named(database: str) -> None:
    assert str(await told(f"{database}?sslmode=require")) == (
        f"cannot reach Postgres at {place_of(database)}: the server does not offer TLS. Check sslmode and sslrootcert"
        f" in {VARIABLE}."
    )


async def test_a_server_that_refuses_us_is_named(database: str) -> None:
    place, name = place_of(database), database.rpartition("/")[2]
    wrong = f"postgresql://postgres:wrong-canary@{place}/{name}"
    assert str(await told(wrong)) == (
        f'Postgres at {place} refuses the connection: password authentication failed for user "postgres". Check the'
        f" user and the password in {VARIABLE} or PENSTOCK_POSTGRES_PASSWORD_FILE."
    )
    assert str(await told(database.removesuffix(name) + "nowhere")) == (
        f'Postgres at {place} refuses the connection: database "nowhere" does not exist. Check the database\'s name in'
        f" {VARIABLE}, or create the database."
    )
    assert str(await told(f"{database}?no_such_parameter=1")) == (
        f'Postgres at {place} refuses the connection: unrecognized configuration parameter "no_such_parameter". Take'
        f" the parameter out of {VARIABLE}."
    )


async def test_each_of_several_hosts_is_named_with_its_own_reason(database: str) -> None:
    place, name = place_of(database), database.rpartition("/")[2]
    several = database.replace(place, f"127.0.0.1:1,{place}")
    async with opened(several) as pool, pool.pool.acquire() as raw:
        await raw.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert str(await told(several)) == (
        f"cannot use Postgres at 127.0.0.1:1 (connection refused), {place} (it is a read-only standby). Check the hosts"
        f" in {VARIABLE}: one of them must take writes."
    )
    async with opened(f"{several}?target_session_attrs=prefer-standby"):
        pass


async def test_parameters_of_hosted_databases_are_honoured(database: str) -> None:
    given = "connect_timeout=9&application_name=app&keepalives=1&channel_binding=prefer&options=-c%20search_path%3Dmine"
    async with opened(f"{database}?{given}") as pool, pool.transaction() as connection:
        assert await connection.raw.fetchval("SHOW search_path") == "mine"
        assert await connection.raw.fetchval("SHOW application_name") == "penstock-test"


@pytest.mark.parametrize("command", [["run"], ["migrate"], ["status"], ["check", "--only", "postgres"]])
async def test_every_command_says_the_same(bridge: Bridge, command: list[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        dsn = f"postgresql://user:pass-canary@127.0.0.1:{port}/penstock"
        finished = await penstock(bridge.environment(postgres_dsn=dsn, http_port=0), *command)
    what = f"cannot reach Postgres at 127.0.0.1:{port}: connection refused"
    fix = f"Check the host and the port in {VARIABLE}, and that the server runs"
    if command[0] == "check":
        assert finished.code == 1
        assert f"postgres:    {what}\n" in finished.out
        assert f"→ {fix}\n" in finished.out
    else:
        assert finished.code == 2
        assert finished.err == f"penstock: {what}. {fix}.\n"
    assert "pass-canary" not in finished.out + finished.err


async def test_a_postgres_that_goes_is_named_in_logs_and_on_the_page_of_readiness(
    bridge: Bridge, postgres: EmbeddedPostgres
) -> None:
    async with bridge.service() as service:
        await postgres.kill()
        try:
            what = f"cannot reach Postgres at 127.0.0.1:{postgres.port}: connection refused"

            async def told_everywhere() -> bool:
                logged = any(what in each["error"] for each in service.logs("stage.round_failed"))
                return logged and what in service.get("/readyz")

            async with asyncio.timeout(60):
                while not await told_everywhere():
                    await asyncio.sleep(0.1)
        finally:
            await postgres.start()
