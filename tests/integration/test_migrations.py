import asyncio

import pytest

from penstock.core.errors import ConfigurationError
from penstock.postgres.database import Database
from penstock.postgres.migrate import migrate, migrations, require_schema, schema_version
from tests.support.rows import migrated, opened

NAMES = [migration.name for migration in migrations()]


async def objects(database: Database) -> list[tuple[str, str]]:
    """Every table and index, with its definition's size in columns."""
    async with database.pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT relname, relkind::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY relname"
        )
    return [tuple(row) for row in rows]


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(NAMES) + 1))


async def test_a_database_is_migrated_once(database: str) -> None:
    async with opened(database) as pool:
        assert await schema_version(pool) == 0
        assert await migrate(pool) == NAMES
        before = await objects(pool)
        assert await migrate(pool) == []
        assert await objects(pool) == before
        assert await schema_version(pool) == len(NAMES)


async def test_replicas_that_migrate_at_the_same_time_do_it_once(database: str) -> None:
    async with opened(database) as one, opened(database) as other, opened(database) as third:
        done = await asyncio.gather(*(migrate(each) for each in (one, other, third)))
        assert sorted(name for each in done for name in each) == NAMES, "each file is applied once"
        await require_schema(other)


async def test_a_migration_that_fails_leaves_nothing(database: str) -> None:
    async with opened(database) as pool:
        async with pool.pool.acquire() as connection:
            await connection.execute("CREATE TABLE lease ()")  # in the way of the first file
        with pytest.raises(Exception, match="already exists"):
            await migrate(pool)
        assert await objects(pool) == [("lease", "r")]
        assert await schema_version(pool) == 0


async def test_an_older_schema_is_refused_with_the_mend(database: str) -> None:
    async with opened(database) as pool:
        with pytest.raises(ConfigurationError, match="penstock migrate"):
            await require_schema(pool)


async def test_a_newer_schema_is_accepted_and_left_alone(database: str) -> None:
    async with migrated(database) as pool:
        async with pool.pool.acquire() as connection:
            await connection.execute("INSERT INTO schema_version (version, name) VALUES (9999, 'later.sql')")
        await require_schema(pool)
        assert await migrate(pool) == []
        assert await schema_version(pool) == 9999
