"""`python -m tests.benchmark [--quick] [NAME …]`: the figures of docs/benchmarks.md, measured now, on this machine.

Without a name it measures throughput. A figure with a name has a bound: the command fails when the bound is broken.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from penstock.memory import look_for_cycles_rarely
from penstock.telemetry.log import configure_logging
from tests.benchmark import consuming, publishing
from tests.benchmark.bridging import bridge
from tests.benchmark.figures import FIGURES
from tests.benchmark.ground import Ground, Reading, ground, machine
from tests.benchmark.workload import fill

SIZES = {1024: 150_000, 4096: 50_000}
WINDOW = 50_000
ROUNDS = 3


def say(text: str) -> None:
    """Print at once, also into a file."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def median(rounds: int, measure: Callable[[], Awaitable[Reading]]) -> Reading:
    """The median run, by rate."""
    readings = sorted([await measure() for _ in range(rounds)], key=lambda each: each.per_second)
    return readings[len(readings) // 2]


def row(name: str, size: int, bare: Reading, ours: Reading) -> str:
    """A line of the table."""
    return (
        f"| {name} | {size // 1024} KB | {bare.per_second:,.0f}/s | {ours.per_second:,.0f}/s "
        f"| {ours.per_second / bare.per_second:.2f} | {bare.cpu_micros:.1f} µs | {ours.cpu_micros:.1f} µs |"
    )


async def compare(site: Ground, rounds: int, share: float) -> None:
    """Intake and publishing beside the client alone."""
    say("| what | size | aiokafka alone | Penstock | ratio | CPU alone | CPU Penstock |")
    say("|---|---|---|---|---|---|---|")
    for size, full_count in SIZES.items():
        count = int(full_count * share)
        topic = await site.topic("requests")
        await fill(site.kafka.bootstrap_servers, topic, count, size)
        bare = await median(rounds, lambda: consuming.bare(site, topic, count))  # noqa: B023 - awaited in this turn
        ours = await median(rounds, lambda: consuming.intake(site, topic, count))  # noqa: B023 - the same
        say(row("consume → store", size, bare, ours))
        window = min(WINDOW, count)
        topic = await site.topic("requests")
        await fill(site.kafka.bootstrap_servers, topic, window, size)
        pairs = []
        for _ in range(rounds):
            reading, results = await publishing.publish(site, topic)
            pairs.append((reading, await publishing.bare(site, results, reading.records)))
        pairs.sort(key=lambda pair: pair[0].per_second / pair[1].per_second)
        ours, bare = pairs[len(pairs) // 2]
        say(row("publish results", size, bare, ours))


async def whole(site: Ground, rounds: int, share: float) -> None:
    """The bridge from topic to topic, as one process."""
    say("\n| whole bridge | requests | wall | CPU per request | peak memory |\n|---|---|---|---|---|")
    for size in SIZES:
        runs = [await bridge(site, int(WINDOW * share), size) for _ in range(rounds)]
        micros = statistics.median(run.reading.cpu_micros for run in runs)
        wall = statistics.median(run.reading.wall_seconds for run in runs)
        peak = max(run.peak_bytes for run in runs) / 2**20
        say(f"| {size // 1024} KB | {runs[0].reading.records:,} | {wall:.1f} s | {micros:.0f} µs | {peak:.0f} MiB |")


async def throughput(*, quick: bool) -> None:
    """Measure and print the rates."""
    rounds, share = (1, 0.1) if quick else (ROUNDS, 1.0)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        async with ground(Path(folder)) as site:
            await compare(site, rounds, share)
            await whole(site, rounds, share)


async def bounded(names: Sequence[str]) -> bool:
    """Measure and print figures, each on servers of its own; returns whether every bound holds."""
    say("| what | figure | bound | command |\n|---|---|---|---|")
    hold = True
    for name in names:
        with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
            async with ground(Path(folder)) as site:
                for figure in await FIGURES[name](site):
                    say(figure.row(f"python -m tests.benchmark {name}"))
                    hold = hold and figure.holds
    return hold


def main() -> bool:
    """Measure what is asked for; returns whether every bound holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of a tenth: shows that it works, no figures")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FIGURES))
    options = parser.parse_args()
    if unknown := set(options.names) - FIGURES.keys():
        parser.error(f"no such figure: {min(unknown)}")
    configure_logging("error")
    say(f"{machine()}; {datetime.now(UTC):%Y-%m-%d}\n")
    if options.names:
        return asyncio.run(bounded(options.names))
    look_for_cycles_rarely()  # as the service does, and its loop: the bare client gains by both as well
    uvloop.run(throughput(quick=options.quick))
    return True


sys.exit(not main())
