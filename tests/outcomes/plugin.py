"""`pytest --outcome NAME`: run the tests that prove a row of docs/outcomes.md."""

import pytest

from tests.outcomes.table import MARK, rows


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcome", metavar="NAME", action="append", default=[], help="run what proves this row")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse marks without a row; leave the tests of the chosen rows, if any are chosen."""
    known = {row.name for row in rows()}
    named = {id(item): {name for mark in item.iter_markers(MARK) for name in mark.args} for item in items}
    chosen = set(config.getoption("--outcome"))
    if unknown := {name for names in named.values() for name in names} - known or chosen - known:
        raise pytest.UsageError(f"no such outcome: {', '.join(sorted(unknown))}")
    if chosen:
        config.hook.pytest_deselected(items=[item for item in items if not named[id(item)] & chosen])
        items[:] = [item for item in items if named[id(item)] & chosen]
