"""Every attempt at a run, kept as it was made: one that failed stays on record when it is made again."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.chaos.case import Action, Case
from tests.chaos.run import Outcome


class Attempt(NamedTuple):
    """One attempt at a run."""

    case: Case
    outcome: Outcome | None
    """None when it failed."""
    commit: str
    """What was struck."""


def commit() -> str:
    """The commit that is checked out; it says so when something is changed beside it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()


def note(path: Path, attempt: Attempt) -> None:
    """Add an attempt to the record."""
    with path.open("a") as record:
        record.write(json.dumps(attempt) + "\n")


def read(path: Path) -> list[Attempt]:
    """The attempts before the sweep was interrupted."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [
        Attempt(Case(name, Action(action), times), Outcome(*outcome) if outcome else None, commit)
        for (name, action, times), outcome, commit in map(json.loads, lines)
    ]


def clean(attempts: Iterable[Attempt]) -> dict[Case, Outcome]:
    """What the runs came to in the end, those that are still without a clean attempt left out."""
    return {each.case: each.outcome for each in attempts if each.outcome is not None}
