"""What docs/design.md lists: the rules and crash points that each need a test which misses them."""

import re
from functools import cache
from pathlib import Path

DESIGN = Path(__file__).parents[2] / "docs" / "design.md"
RULE = re.compile(r"^- ([A-Z]\d)\. ", re.MULTILINE)
POINT = re.compile(r"^\| (\d+) \| ", re.MULTILINE)
IDENTITY = "Identity"


@cache
def rules() -> tuple[str, ...]:
    """The rules' names, in the order of the page."""
    text = DESIGN.read_text()
    assert f"**{IDENTITY}.**" in text, "the page has no such rule"
    return (IDENTITY, *RULE.findall(text))


@cache
def points() -> tuple[int, ...]:
    """The crash points' numbers."""
    return tuple(map(int, POINT.findall(DESIGN.read_text())))
