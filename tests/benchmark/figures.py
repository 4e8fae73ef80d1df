"""The figures that have a bound, by the name that `python -m tests.benchmark NAME` takes."""

from tests.benchmark import clock_skew, memory_bodies, memory_partitions, postgres_away
from tests.benchmark.figure import Measure

FIGURES: dict[str, Measure] = {
    "clock-skew": clock_skew.measure,
    "memory-bodies": memory_bodies.measure,
    "memory-partitions": memory_partitions.measure,
    "postgres-killed": postgres_away.measure_killed,
    "postgres-stalled": postgres_away.measure_stalled,
}
