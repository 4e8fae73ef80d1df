"""Migrations: numbered SQL files, applied in order, each once; two runners at once are safe."""

import asyncio
from importlib.resources import files
from typing import NamedTuple

import asyncpg

from penstock.core.errors import ConfigurationError
from penstock.postgres.database import Database
from penstock.telemetry.failpoint import failpoint

LOCK = "SELECT pg_advisory_xact_lock(hashtext('penstock.migrate'))"
VERSIONS = """
CREATE TABLE IF NOT EXISTS schema_version (
    version integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
APPLIED = "SELECT coalesce(max(version), 0) FROM schema_version"
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '10s'"
TRIES = 10
RETRY_SECONDS = 0.5


class Migration(NamedTuple):
    """One file."""

    version: int
    name: str
    text: str


def migrations() -> list[Migration]:
    """Every migration that this version brings, in order."""
    found = [file for file in files(__package__).joinpath("migrations").iterdir() if file.name.endswith(".sql")]
    return sorted(Migration(int(file.name[:4]), file.name, file.read_text()) for file in found)


async def migrate(database: Database) -> list[str]:
    """Bring the schema up to this version; returns the names of the files applied.

    Each file has a transaction of its own. One that meets a deadlock with replicas at work is tried again.
    """
    done = []
    while (name := await apply_next(database)) is not None:
        done.append(name)
    return done


async def apply_next(database: Database) -> str | None:
    """Apply the first file that is not applied; returns its name, None when there is none."""
    for tries_left in reversed(range(TRIES)):
        try:
            return await apply_one(database)
        except (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError):
            if not tries_left:
                raise
            await asyncio.sleep(RETRY_SECONDS)
    raise AssertionError("the last try returns or raises")


async def apply_one(database: Database) -> str | None:
    """One try at the first file that is not applied."""
    async with database.acquired() as connection, connection.transaction():
        await connection.execute(LOCK_TIMEOUT)
        await connection.execute(LOCK)
        await connection.execute(VERSIONS)
        version = await connection.fetchval(APPLIED)
        migration = next((each for each in migrations() if each.version > version), None)
        if migration is None:
            return None
        await connection.execute(migration.text)
        await connection.execute(
            "INSERT INTO schema_version (version, name) VALUES ($1, $2)", migration.version, migration.name
        )
        return migration.name


@failpoint("start.schema")
async def schema_version(database: Database) -> int:
    """The version that the database is at; 0 when it was never migrated."""
    async with database.acquired() as connection:
        if await connection.fetchval("SELECT to_regclass('schema_version')") is None:
            return 0
        version: int = await connection.fetchval(APPLIED)
        return version


async def require_schema(database: Database) -> None:
    """Refuse to run on a schema that is older than this version; a newer one is fine (expand, then contract).

    Raises:
        ConfigurationError: with the mend.
    """
    version, wanted = await schema_version(database), migrations()[-1].version
    if version < wanted:
        raise ConfigurationError(f"the database's schema is at version {version}, needed is {wanted}: penstock migrate")
