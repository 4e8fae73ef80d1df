"""docs/chaos.md, of a complete sweep whose runs all had a clean attempt in the end."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from tests.chaos.attempts import Attempt, clean
from tests.chaos.case import MEANINGS, Action, Case
from tests.chaos.run import Outcome
from tests.chaos.scenario import ONCE_ONLY, scenario_of
from tests.support.bridge import FAST
from tests.support.machine import machine, today

PAGE = Path(__file__).parents[2] / "docs" / "chaos.md"
INTRODUCTION = """# Every failpoint, struck

Every I/O of the service passes a failpoint; a test reads the source and fails when one does not. `make chaos` strikes
each of them, in four ways, once and twice, on a real Kafka and a real Postgres with two or more replicas, and lets the
independent checker judge each run: nothing lost, doubled, crossed or orphaned, and of each execution that was paid
for in vain Postgres knows the cause. It writes this page when each run had a clean attempt, and counts those that
failed before it; a run in which the failpoint is not reached fails.
"""
CONFIDENT = 3
"""Zero failures in n runs bound the rate of failures at 3/n, at 95 %."""


def spread(seconds: Iterable[float | None]) -> str:
    """Median and worst."""
    known = [each for each in seconds if each is not None]
    return f"{median(known):.1f} s, {max(known):.1f} s" if known else "-"


def totals(attempts: Sequence[Attempt]) -> str:
    """All runs in a few words."""
    commits = ", ".join(f"`{each}`" for each in dict.fromkeys(each.commit for each in attempts))
    return f"{len(clean(attempts))} clean runs; commit {commits}; {today()}, on {machine()}."


def page(attempts: Sequence[Attempt]) -> str:
    """The page."""
    found = clean(attempts)
    return "\n".join(
        [INTRODUCTION, *ways(found), failures(attempts), *figures(found), *table(found), "", totals(attempts), ""]
    )


def failures(attempts: Sequence[Attempt]) -> str:
    """How many attempts failed, and which were made again."""
    failed = Counter(each.case.label for each in attempts if each.outcome is None)
    if not failed:
        return (
            f"{len(attempts)} runs, 0 failures: at 95 % the rate of failures is below {CONFIDENT / len(attempts):.2%}."
        )
    again = ", ".join(
        f"`{label}`" + (f" {count} times" if count > 1 else "") for label, count in sorted(failed.items())
    )
    return f"{len(attempts)} attempts, of which {failed.total()} failed and were made again: {again}."


def ways(found: Mapping[Case, Outcome]) -> list[str]:
    """What each action means, and how long others took to go on."""
    lines = [
        "| action | what happens | followed: median, worst | all done: median, worst |",
        "|---|---|---|---|",
    ]
    for action in Action:
        outcomes = [outcome for case, outcome in found.items() if case.action is action]
        followed = spread(each.followed_seconds for each in outcomes)
        finished = spread(each.finished_seconds for each in outcomes)
        lines.append(f"| {action} | {MEANINGS[action]} | {followed} | {finished} |")
    return [
        *lines,
        "",
        "*Followed* is the time from the last strike (or from when the other replica was ready, if that was later) to",
        "the next pass of the same place, by another replica where the struck one is gone. *All done* is the time to",
        "when nothing was left to do: every answer published, every batch closed. Both hold for leases of",
        f"{FAST['lease_seconds']} s; the default is 30 s.",
        "",
    ]


def figures(found: Mapping[Case, Outcome]) -> list[str]:
    """Counts of all runs."""
    extra, counted = sum(each.extra for each in found.values()), sum(each.counted for each in found.values())
    causing = sum(bool(each.extra) for each in found.values())
    once = ", ".join(f"`{name}` ({action}: {why})" for (name, action), why in ONCE_ONLY.items())
    return [
        f"In {causing} runs {extra} requests were paid more than once; Postgres knows the cause of each ({counted}).",
        f"Twice is once at {once}.",
        "",
    ]


def table(found: Mapping[Case, Outcome]) -> list[str]:
    """A row for each failpoint."""
    lines = [
        "| failpoint | workload | runs | paid twice | counted | followed: median, worst | all done: median, worst |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in sorted({case.name for case in found}):
        mine = {case: outcome for case, outcome in found.items() if case.name == name}
        runs = ", ".join(f"{action} {'1 2'}" for action in Action if any(case.action is action for case in mine))
        followed = spread(each.followed_seconds for each in mine.values())
        finished = spread(each.finished_seconds for each in mine.values())
        extra, counted = sum(each.extra for each in mine.values()), sum(each.counted for each in mine.values())
        lines.append(f"| `{name}` | {scenario_of(name)} | {runs} | {extra} | {counted} | {followed} | {finished} |")
    return lines
