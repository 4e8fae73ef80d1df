"""`python -m tests.chaos [--only NAME…] [--action …] [--times …]`: strike every failpoint in every way.

Each run has a world of its own on one Kafka and one Postgres; four go on at a time. A complete sweep, each of whose
runs had a clean attempt in the end, writes docs/chaos.md, which tells of the other attempts.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import penstock.app  # noqa: F401 - imports every failpoint
from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from penstock.telemetry.failpoint import NAMES
from penstock.telemetry.log import configure_logging
from tests.chaos.attempts import Attempt, clean, commit, note, read
from tests.chaos.case import Action, Case
from tests.chaos.page import PAGE, page, totals
from tests.chaos.run import Ground, Outcome, run
from tests.support.bridge import migrate
from tests.support.stack import fresh_database, running

RUN_SECONDS = 300.0
ATTEMPTS = "attempts.jsonl"
"""In the folder: what every attempt came to."""
FIRST_LINES = 3


def tell(line: str) -> None:
    """Print at once."""
    print(line, flush=True)  # noqa: T201 - the program's answer


def chosen(options: argparse.Namespace) -> list[Case]:
    """The runs that are asked for."""
    names = [name for name in sorted(NAMES) if any(fnmatchcase(name, each) for each in options.only or ["*"])]
    return [Case(name, action, times) for name in names for action in options.action for times in options.times]


async def attempt(case: Case, ground: Ground, root: Path) -> Outcome | None:
    """One run, told; None when it failed, and then its folder is kept."""
    folder = root / case.label
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.monotonic()
    try:
        async with asyncio.timeout(RUN_SECONDS):
            outcome = await run(case, ground, folder)
    except Exception as error:  # noqa: BLE001 - the others go on
        (folder / "error").write_text(f"{type(error).__name__}: {error}\n")
        tell(f"{case.label:44} FAILED, {time.monotonic() - started:.0f} s: {type(error).__name__}")
        for line in str(error).split("\n")[:FIRST_LINES]:
            tell(f"    {line[:400]}")
        tell(f"    logs: {folder}")
        tell(f"    again: python -m tests.chaos --only {case.name} --action {case.action} --times {case.times}")
        return None
    shutil.rmtree(folder)
    extra = f", {outcome.extra} paid twice, {outcome.counted} counted" if outcome.extra or outcome.counted else ""
    followed = "-" if outcome.followed_seconds is None else f"{outcome.followed_seconds:.1f}"
    tell(
        f"{case.label:44} {time.monotonic() - started:3.0f} s: followed after {followed} s, "
        f"all done after {outcome.finished_seconds:.1f} s{extra}"
    )
    return outcome


async def sweep(cases: Sequence[Case], options: argparse.Namespace) -> list[Attempt]:
    """Every run that has no clean attempt yet, so many at a time; returns all attempts there were."""
    record, struck = options.folder / ATTEMPTS, commit()
    attempts = [each for each in read(record) if each.case in cases]
    done = clean(attempts)
    waiting = [case for case in reversed(cases) if case not in done]
    async with running(EmbeddedKafka) as kafka, running(EmbeddedPostgres) as postgres, fresh_database(postgres) as dsn:
        await migrate(dsn, options.folder / "migrate.log")
        ground = Ground(kafka, postgres, dsn.rpartition("/")[2], options.patience)

        async def work() -> None:
            while waiting:
                case = waiting.pop()
                made = Attempt(case, await attempt(case, ground, options.folder), struck)
                attempts.append(made)
                note(record, made)

        async with asyncio.TaskGroup() as group:
            for _ in range(options.jobs):
                group.create_task(work())
    return attempts


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="a failpoint, or a shell pattern of them")
    parser.add_argument("--action", action="append", type=Action, choices=list(Action))
    parser.add_argument("--times", action="append", type=int, choices=[1, 2])
    parser.add_argument("--jobs", type=int, default=4, help="runs at a time (default: 4)")
    parser.add_argument("--patience", type=float, default=90.0, metavar="SECONDS", help="for each wait (default: 90)")
    parser.add_argument(
        "--folder", type=Path, help="keeps logs of failed runs, and what is done: name it again to go on"
    )
    options = parser.parse_args()
    options.whole = not (options.only or options.action or options.times)
    options.action = options.action or list(Action)
    options.times = options.times or [1, 2]
    options.folder = options.folder or Path(tempfile.mkdtemp(prefix="penstock-chaos-"))
    options.folder.mkdir(parents=True, exist_ok=True)
    return options


def main() -> int:
    """Sweep; exit status 0 when nothing went wrong."""
    options = parsed()
    configure_logging("error")
    cases = chosen(options)
    attempts = asyncio.run(sweep(cases, options))
    tell(totals(attempts))
    if failed := [case for case in cases if case not in clean(attempts)]:
        tell(f"{len(failed)} RUNS FAILED: {', '.join(each.label for each in failed)}")
        return 1
    if options.whole:
        PAGE.write_text(page(attempts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
