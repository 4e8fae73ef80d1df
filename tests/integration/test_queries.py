"""The SQL files against the real schema, and against the code that names their queries."""

import ast
import re
from importlib.resources import files
from pathlib import Path

import penstock
from penstock.postgres import queries as module
from penstock.postgres.queries import queries
from tests.support.rows import migrated

SOURCE = Path(str(files(penstock)))
METHODS = {"fetch", "row", "value", "execute"}


def names_called() -> set[str]:
    """Every query that the code names: the first argument of a call of a connection or the database."""
    return {
        node.args[0].value
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in METHODS
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
        and re.fullmatch(r"\w+", node.args[0].value)
    }


async def test_every_query_is_understood_by_the_newest_schema(database: str) -> None:
    async with migrated(database) as pool, pool.transaction() as connection:
        for name, text in queries().items():
            statement = await connection.raw.prepare(text)
            assert statement.get_query() == text, name


async def test_queries_and_the_code_that_names_them_agree() -> None:
    assert names_called() == set(queries())


async def test_every_file_of_queries_begins_with_a_name_and_none_is_empty() -> None:
    for file in files(module.__package__ or "").joinpath("sql").iterdir():
        assert file.read_text().startswith("-- name: "), file.name
    assert all(text and not text.endswith(";") for text in queries().values())
