"""Messages by chance through intake's parser: ``python -m tests.fuzz --inputs 1000000 --seed 0``.

A run of a million or more writes its figures into docs/fuzz.md.
"""

import argparse
import random
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.fuzz.judge import ACCEPTED, outcome
from tests.fuzz.message import message
from tests.support.machine import machine, today

PAGE = Path(__file__).parents[2] / "docs" / "fuzz.md"
PAGE_INPUTS = 1_000_000
BLOCK = 1000
HANG_SECONDS = 60
"""A block of inputs that takes longer ends the process by SIGALRM."""


def run(seed: int, first: int, inputs: int) -> tuple[Counter[str], tuple[float, int]]:
    """Judge messages; returns how many had which outcome, and the longest CPU seconds of one beside its number.

    Raises:
        AssertionError: with the message's number, when intake did what the contract does not say.
    """
    counts: Counter[str] = Counter()
    slowest = (0.0, first)
    for number in range(first, first + inputs):
        made = message(random.Random(f"{seed}/{number}"))
        started = time.process_time()
        try:
            counts[outcome(made)] += 1
        except Exception as error:
            raise AssertionError(f"input {number} of seed {seed}: {made!r:.2000}") from error
        slowest = max(slowest, (time.process_time() - started, number))
    return counts, slowest


def main() -> int:
    """Run until an input fails; print the figures, or the input and how to see it again."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=PAGE_INPUTS, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of all chance")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    options = parser.parse_args()
    started = time.perf_counter()
    counts: Counter[str] = Counter()
    slowest = (0.0, 0)
    end = options.first + options.inputs
    try:
        for first in range(options.first, end, BLOCK):
            signal.alarm(HANG_SECONDS)
            found, slow = run(options.seed, first, min(BLOCK, end - first))
            counts += found
            slowest = max(slowest, slow)
    except AssertionError as failure:
        traceback.print_exception(failure)
        return 1
    signal.alarm(0)
    seconds = time.perf_counter() - started
    text = page(options.seed, options.inputs, seconds, counts, f"{slowest[0] * 1000:.0f} ms (number {slowest[1]})")
    sys.stdout.write(text)
    if options.inputs >= PAGE_INPUTS:
        PAGE.write_text(text)
    return 0


def page(seed: int, inputs: int, seconds: float, counts: Counter[str], slowest: str) -> str:
    """The figures of a run."""
    lines = [
        "# Parser fuzz",
        "",
        f"<!-- Written by `make fuzz`; again: `make fuzz INPUTS={inputs} SEED={seed}`. -->",
        "",
        "Messages by chance, from almost right to hopeless, taken in as intake does and judged by another reading of",
        "the contract (`tests/fuzz/judge.py`): no crash, no hang, no dead letter without a reason, no bytes changed.",
        "",
        f"{inputs:,} inputs of seed {seed} in {seconds:.0f} s; {counts[ACCEPTED]:,} were requests,",
        f"{inputs - counts[ACCEPTED]:,} dead letters. The slowest took {slowest}, its judgement included. None failed.",
        f"{today()}, {machine()}.",
        "",
        "| outcome | inputs |",
        "| --- | ---: |",
        *(f"| `{code}` | {count:,} |" for code, count in counts.most_common()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
