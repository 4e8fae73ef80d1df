import os
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import psutil
import pytest

from penstock.embedded.postgres import EmbeddedPostgres
from penstock.embedded.server import ServerError

PARENT = """
import asyncio, pathlib, signal, sys
from penstock.embedded.postgres import EmbeddedPostgres

server = EmbeddedPostgres(pathlib.Path(sys.argv[1]))
asyncio.run(server.start())
print(server.process.pid, flush=True)
signal.pause()
"""


async def query(dsn: str, statement: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_each_database_is_empty_and_takes_sql(database: str, postgres: EmbeddedPostgres) -> None:
    assert await query(database, "select count(*) from pg_tables where schemaname = 'public'") == 0
    await query(database, "create table batch (id int)")
    assert await query(database, "insert into batch values (7) returning id") == 7
    assert await query(postgres.dsn, "select to_regclass('batch')") is None


async def test_commits_are_durable_by_default(database: str) -> None:
    assert await query(database, "show fsync") == "on"


async def test_a_wrong_password_is_refused(database: str) -> None:
    connection_url, _, address = database.partition("@")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await query(f"{connection_url}x@{address}", "select 1")


async def test_committed_rows_survive_a_kill_with_sessions_open(database: str, postgres: EmbeddedPostgres) -> None:
    await query(database, "create table batch as select 7 as id")
    session = await asyncpg.connect(database)
    await postgres.kill()
    assert not postgres.is_running
    await postgres.restart()
    assert await query(database, "select id from batch") == 7
    session.terminate()


async def test_a_later_object_finds_the_data(tmp_path: Path) -> None:
    for statement in ("create table batch as select 7 as id", "select id from batch"):
        server = EmbeddedPostgres(tmp_path / "postgres", fsync=False)
        await server.start()
        try:
            answer = await query(server.dsn, statement)
        finally:
            await server.stop()
    assert answer == 7


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres", settings={"max_connections": "none"})
    with pytest.raises(ServerError, match="max_connections"):
        await server.start()


async def test_a_server_ends_with_a_parent_that_is_killed() -> None:
    with (
        tempfile.TemporaryDirectory() as folder
    ):  # in place of tmp_path, which is closed to the user that root falls to
        Path(folder).chmod(0o755)
        command = [sys.executable, "-c", PARENT, f"{folder}/postgres"]
        with subprocess.Popen(command, env={**os.environ, "TMPDIR": folder}, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            server = psutil.Process(int(parent.stdout.readline()))
            parent.kill()
        server.wait(timeout=30)
