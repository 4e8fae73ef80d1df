"""All rows by section, and the tests that are marked with them."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.outcomes import bounds, calls, messages, provider
from tests.outcomes.row import Row

TESTS = Path(__file__).parents[1]
MARK = "outcome"
SECTIONS: Mapping[str, Mapping[str, Sequence[Row]]] = {
    "Outcomes at the provider": {
        "How a batch ends": provider.ENDS,
        "Lines": provider.LINES,
        "Failed at validation": provider.VALIDATION,
        "Creates": calls.CREATES,
        "Other calls": calls.READS,
        "Files": calls.FILES,
        "Limits": calls.LIMITS,
        "Webhooks": calls.WEBHOOKS,
    },
    "Messages": {
        "Messages that can be no request": messages.BAD,
        "Bodies": messages.BODIES,
        "Topics and their producers": messages.TOPICS,
    },
    "Bounds": {
        "What runs full": bounds.FULL,
        "What goes away": bounds.AWAY,
        "What loses data": bounds.LOST,
    },
}


def rows() -> list[Row]:
    """Every row, in the order of the page."""
    return [row for groups in SECTIONS.values() for group in groups.values() for row in group]


def marked() -> dict[str, list[str]]:
    """The tests that are marked with each name, as `file::test` below `tests/`."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        source = path.read_text()
        if f"mark.{MARK}(" not in source:
            continue
        for test, names in marks_of(ast.parse(source)):
            for name in names:
                found.setdefault(name, []).append(f"{path.relative_to(TESTS)}::{test}")
    return found


def marks_of(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    """The tests of a module that are marked, each with the names of its rows."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == f"pytest.mark.{MARK}":
                    yield node.name, [ast.literal_eval(name) for name in mark.args]
