"""The figures that have a bound, by the name that `python -m tests.benchmark NAME` takes."""

from tests.benchmark import (
    clock_skew,
    creates,
    loop_lag,
    memory_again,
    memory_bodies,
    memory_in_flight,
    memory_output,
    memory_partitions,
    memory_transfers,
    polls,
    postgres_away,
    trickle,
    wal,
)
from tests.benchmark.figure import Measure

FIGURES: dict[str, Measure] = {
    "clock-skew": clock_skew.measure,
    "creates": creates.measure,
    "loop-lag": loop_lag.measure,
    "memory-again": memory_again.measure,
    "memory-bodies": memory_bodies.measure,
    "memory-in-flight": memory_in_flight.measure,
    "memory-output": memory_output.measure,
    "memory-partitions": memory_partitions.measure,
    "memory-transfers": memory_transfers.measure,
    "polls": polls.measure,
    "postgres-killed": postgres_away.measure_killed,
    "postgres-stalled": postgres_away.measure_stalled,
    "trickle": trickle.measure,
    "wal": wal.measure,
}
