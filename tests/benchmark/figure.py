"""What every figure is: a number that was measured, beside its bound; a file of its own measures each."""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.benchmark.ground import Ground

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, in `unit`, and the bounds it must keep."""

    what: str
    value: float
    unit: str
    most: float = math.inf
    least: float = -math.inf

    @property
    def holds(self) -> bool:
        """Whether it is inside its bounds."""
        return self.least <= self.value <= self.most

    def row(self, command: str) -> str:
        """A line of the table in docs/benchmarks.md."""
        most = [f"≤ {self.most:,g}"] if self.most < math.inf else []
        least = [f"≥ {self.least:,g}"] if self.least > -math.inf else []
        bounds = ", ".join(most + least) or "none"
        broken = "" if self.holds else " **broken**"
        return f"| {self.what} | {self.value:,.4g} {self.unit}{broken} | {bounds} | `{command}` |"


Measure = Callable[[Ground], Awaitable[Sequence[Figure]]]
"""Measures on servers that are its own."""
