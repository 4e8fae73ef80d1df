"""Prompts are gone when they are no longer needed, and a secret that changes is taken up without a restart."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import zstandard

from tests.support.bridge import Bridge
from tests.support.conversation import Conversation
from tests.support.request import chat

CANARY = "prompt-canary-b1f4"
ZSTD = b"\x28\xb5\x2f\xfd"
FORGETFUL: dict[str, Any] = {
    "janitor_file_grace_seconds": 0,
    "janitor_interval_seconds": 0.3,
    "janitor_payload_turn_seconds": 0.5,
    "intake_linger_seconds": 0.2,
}
AT_ONCE = "[defaults]\nage_max_seconds = 0.3\n"
SECONDS = 60.0


def with_canary(count: int) -> list[dict[str, Any]]:
    """Requests whose prompts can be recognised."""
    lines = [chat(f"request-{number}") for number in range(count)]
    for each in lines:
        each["body"]["messages"] = [{"role": "user", "content": CANARY}]
    return lines


def readable(value: object) -> str:
    """A column's value as text, decompressed where it is a zstd frame."""
    if not isinstance(value, bytes):
        return str(value)
    if value.startswith(ZSTD):
        value = zstandard.ZstdDecompressor().decompressobj().decompress(value)
    return value.decode(errors="replace")


async def tables_with(bridge: Bridge, text: str) -> set[str]:
    """The tables that hold a text, in whatever column; partitions by themselves."""
    found = set()
    for (table,) in await bridge.sql("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND oid >= 16384"):
        rows = await bridge.sql(f"SELECT * FROM {table}")
        if any(text in readable(value) for row in rows for value in row):
            found.add(table)
    return found


async def test_prompts_lie_nowhere_once_their_results_are_published(bridge: Bridge) -> None:
    """Ids, keys and headers stay findable; payload, spool and the provider's files are empty; logs never had any."""
    bridge.lanes.write_text(AT_ONCE)
    await bridge.sql("INSERT INTO pause (kind, name, reason) VALUES ('account', 'default', 'a test')")
    async with bridge.service(**FORGETFUL) as service:
        talk = Conversation(bridge, service)
        lines = with_canary(50)
        await bridge.produce(lines)
        async with asyncio.timeout(SECONDS):
            while not (held := await tables_with(bridge, CANARY)):
                await asyncio.sleep(0.1)
        assert {each.partition("_")[0] for each in held} == {"payload"}, "whoever looks for prompts finds them"
        await bridge.sql("DELETE FROM pause")
        await talk.answers([each["custom_id"] for each in lines])
        async with bridge.simulator.client() as client, asyncio.timeout(SECONDS):
            while (
                (await bridge.sql("SELECT 1 FROM payload LIMIT 1"))
                or (await client.files.list()).data
                or list((bridge.folder / "spool").rglob("*.jsonl"))
            ):
                await asyncio.sleep(0.1)
        kept = {each.partition("_")[0] for each in await tables_with(bridge, lines[0]["custom_id"])}
        assert kept == {"manifest"}, "the ids stay findable, and are read where prompts are looked for"
        assert await tables_with(bridge, CANARY) == set()
        assert CANARY not in service.text()
        assert CANARY not in await asyncio.to_thread(service.get, "/metrics")


@asynccontextmanager
async def role(bridge: Bridge, password: str) -> AsyncIterator[str]:
    """A role of the server's with a password; it goes at the end."""
    name = f"role_{uuid.uuid4().hex[:12]}"
    await bridge.sql(f"CREATE ROLE {name} LOGIN SUPERUSER PASSWORD '{password}'")
    try:
        yield name
    finally:
        await bridge.sql(f"DROP ROLE {name}")


def dsn_of(dsn: str, name: str) -> str:
    """The same database for another role, whose password is elsewhere."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{name}@{parts.hostname}:{parts.port}"))


async def refused(dsn: str, password: str) -> bool:
    """Whether the server takes this password no more."""
    try:
        await (await asyncpg.connect(dsn, password=password)).close()
    except asyncpg.InvalidPasswordError:
        return True
    return False


async def test_a_database_password_that_changes_is_taken_up_without_a_restart(bridge: Bridge, tmp_path: Path) -> None:
    """As tokens are, which last for minutes: each connection is made with what the file holds then."""
    bridge.lanes.write_text(AT_ONCE)
    file = tmp_path / "password"
    file.write_text("first-one\n")
    async with role(bridge, "first-one") as name:
        dsn = dsn_of(bridge.dsn, name)
        settings: dict[str, Any] = {
            "postgres_dsn": dsn,
            "postgres_password_file": file,
            "postgres_statement_cache": True,
        }
        async with bridge.service(intake_linger_seconds=0.2, **settings) as service:
            talk = Conversation(bridge, service)
            await talk.ask([chat(f"before-{number}") for number in range(5)])
            await bridge.sql(f"ALTER ROLE {name} PASSWORD 'second-one'")
            file.write_text("second-one\n")
            assert await refused(dsn, "first-one")
            await bridge.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", name)
            await talk.ask([chat(f"after-{number}") for number in range(5)])
            assert service.returncode is None
            assert "first-one" not in service.text()
            assert "second-one" not in service.text()
        await bridge.check()
