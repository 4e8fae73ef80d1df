"""What a switch is, and all of them by name."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from penstock.postgres.queries import queries

Patch = pytest.MonkeyPatch
Switch = Callable[[Patch], None]


@dataclass(frozen=True, slots=True)
class Defence:
    """One defence: where the design speaks of it, what its switch does, and the switch."""

    name: str
    rules: str
    points: tuple[int, ...]
    off: str
    switch: Switch

    @property
    def named(self) -> list[str]:
        """The rules, one by one."""
        return self.rules.split(", ")


DEFENCES: dict[str, Defence] = {}
"""All that can be switched off, by name."""


def defence(rules: str, *points: int) -> Callable[[Switch], Switch]:
    """Register a switch; its docstring says what is off.

    Args:
        rules: of the design.
        points: crash points of the design's table.
    """

    def register(switch: Switch) -> Switch:
        name = switch.__name__
        DEFENCES[name] = Defence(name, rules, points, (switch.__doc__ or "").strip(), switch)
        return switch

    return register


def reword(patch: Patch, query: str, *changes: tuple[str, str]) -> None:
    """Change a query's text; each change must meet a text that stands in it."""
    text = queries()[query]
    for old, new in changes:
        assert old in text, f"{query} no longer says {old!r}"
        text = text.replace(old, new)
    patch.setitem(queries(), query, text)
