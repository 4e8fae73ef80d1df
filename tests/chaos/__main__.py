"""`python -m tests.chaos [--only NAME…] [--action …] [--times …]`: strike every failpoint in every way.

Each run has a world of its own on one Kafka and one Postgres; two go on at a time. A complete sweep in which nothing
went wrong writes docs/chaos.md.
"""

import argparse
import asyncio
import json
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
from tests.chaos.case import Action, Case
from tests.chaos.page import PAGE, page, totals
from tests.chaos.run import Ground, Outcome, run
from tests.support.bridge import migrate
from tests.support.stack import fresh_database, running

RUN_SECONDS = 300.0
DONE = "outcomes.jsonl"
"""In the folder: what every run came to."""
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


async def sweep(cases: Sequence[Case], options: argparse.Namespace) -> dict[Case, Outcome | None]:
    """Every run that is not done yet, so many at a time."""
    found: dict[Case, Outcome | None] = {**read_done(options.folder / DONE)}
    waiting = [case for case in reversed(cases) if case not in found]
    async with running(EmbeddedKafka) as kafka, running(EmbeddedPostgres) as postgres, fresh_database(postgres) as dsn:
        await migrate(dsn, options.folder / "migrate.log")
        ground = Ground(kafka, postgres, dsn.rpartition("/")[2], options.patience)

        async def work() -> None:
            while waiting:
                case = waiting.pop()
                found[case] = await attempt(case, ground, options.folder)
                with (options.folder / DONE).open("a") as done:
                    done.write(json.dumps([case, found[case]]) + "\n")

        async with asyncio.TaskGroup() as group:
            for _ in range(options.jobs):
                group.create_task(work())
    return {case: found[case] for case in cases}


def read_done(path: Path) -> dict[Case, Outcome]:
    """What runs came to before the sweep was interrupted; those that failed are made again."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {
        Case(name, Action(action), times): Outcome(*outcome)
        for (name, action, times), outcome in map(json.loads, lines)
        if outcome
    }


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
    found = asyncio.run(sweep(chosen(options), options))
    clean = {case: outcome for case, outcome in found.items() if outcome is not None}
    failed = [case for case in found if case not in clean]
    tell(totals(clean))
    if failed:
        tell(f"{len(failed)} RUNS FAILED: {', '.join(each.label for each in failed)}")
        return 1
    if options.whole:
        PAGE.write_text(page(clean))
    return 0


if __name__ == "__main__":
    sys.exit(main())
