"""The figures that have a bound, by the name that `python -m tests.benchmark NAME` takes."""

from tests.benchmark import memory_bodies
from tests.benchmark.figure import Measure

FIGURES: dict[str, Measure] = {
    "memory-bodies": memory_bodies.measure,
}
