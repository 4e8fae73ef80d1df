"""Seeds on demand: ``python -m tests.simulation --seeds 100000 --seed 0``."""

import argparse
import sys
import time
import traceback

from tests.simulation.run import Run, simulate
from tests.simulation.scenario import HOUR, START


def main() -> int:
    """Run seeds until one fails; print how fast, or the seed, its trace and how to see it again."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--trace", action="store_true", help="print what happened even if nothing fails")
    options = parser.parse_args()
    started, hours = time.perf_counter(), 0.0
    for seed in range(options.seed, options.seed + options.seeds):
        run = simulate(seed)
        hours += (run.world.now - START) / HOUR
        if options.trace or run.failure is not None:
            write(story(seed, run))
        if run.failure is not None:
            return 1
    seconds = time.perf_counter() - started
    days = f"{hours / 24:.0f} days of the simulated clock"
    write(
        f"{options.seeds} seeds from {options.seed}, {days}, in {seconds:.1f} s: {options.seeds / seconds:.0f} a second"
    )
    return 0


def write(text: str) -> None:
    """A line for whoever runs it."""
    sys.stdout.write(f"{text}\n")


def story(seed: int, run: Run) -> str:
    """All events of a seed, and its failure if it has one."""
    scenario = run.world.scenario
    lines = [f"seed {seed}: {scenario.creates_per_hour} creates an hour, tokens {scenario.token_limits}"]
    lines += [str(scenario.weather), *map(str, scenario.lanes.rules)]
    lines += [f"{(at - START) / HOUR:9.4f} h  {' '.join(map(str, what))}" for at, *what in run.world.trace]
    if run.failure is not None:
        lines += traceback.format_exception(run.failure)
        lines.append(f"seed {seed} failed; again: make simulate SEEDS=1 SEED={seed}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
