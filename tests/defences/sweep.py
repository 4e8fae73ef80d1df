"""`python -m tests.defences.sweep [NAME…]`: switch off each defence in turn; what is marked with it must fail.

A failure counts only if it is an assertion of the test's own, or the checker's verdict, and if no service met an error
of programming: a switch that no longer fits the product breaks it, which proves nothing. What was seen of a defence
that was missed is written to docs/defences.md; the rows of the others stay as they are.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from tests.defences.page import read_page, write_page
from tests.defences.plugin import BROKEN, DEFENCE, NOTICED
from tests.defences.switches import DEFENCES

ROOT = Path(__file__).parents[2]
SWEEP_SECONDS = 3600.0
# Each F that is printed is a defence that was missed. What a broken run leaves behind fails no other test.
PYTEST = (
    "-m",
    "pytest",
    "tests/unit",
    "tests/integration",
    "-n2",
    "--dist=worksteal",
    "--tb=no",
    "-rN",
    "--quiet",
    "-Wdefault",
)


class Seen(NamedTuple):
    """What one test made of a defence that was off: what it noticed, or why that does not count."""

    defence: str
    test: str
    noticed: str | None
    otherwise: str = ""


def run(names: Sequence[str], report: Path) -> list[Seen]:
    """Run the tests that are marked with a defence, without it; all over one Kafka and one Postgres a worker."""
    off = [f"--defence-off={name}" for name in names]
    command = [sys.executable, *PYTEST, f"--junit-xml={report}", *off]
    subprocess.run(command, cwd=ROOT, timeout=SWEEP_SECONDS, check=False)
    return [read(case) for case in ET.parse(report).iter("testcase")] if report.exists() else []


def read(case: ET.Element) -> Seen:
    """One test of a report."""
    told = {each.get("name", ""): each.get("value", "") for each in case.iter("property")}
    defence = told.get(DEFENCE, "")
    function, _, parameters = case.get("name", "").partition("[")
    others = parameters.removesuffix("]").replace(defence, "", 1).strip("-")
    test = f"{function}[{others}]" if others else function
    if BROKEN in told:
        return Seen(defence, test, None, f"the switch does not fit the product any more: {told[BROKEN]}")
    if case.find("error") is not None:
        return Seen(defence, test, None, "an error of the harness")
    if case.find("failure") is None:
        return Seen(defence, test, None, "it passed")
    return Seen(defence, test, told.get(NOTICED), "it failed, but not by an assertion of its own")


def missed(found: Sequence[Seen]) -> bool:
    """Whether a defence was missed: by every test that is marked with it, and by one at least."""
    return bool(found) and all(each.noticed for each in found)


def tell(found: Mapping[str, Sequence[Seen]]) -> None:
    """Say what became of each defence."""
    for name, seen in found.items():
        say(f"{name:28} {'missed' if missed(seen) else 'NOT MISSED'}")
        for each in seen:
            say(f"    {each.test}: {each.noticed or each.otherwise}")
        if not seen:
            say("    no test is marked with it")


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)  # noqa: T201 - the program's answer


def main(given: Iterable[str]) -> int:
    """Sweep over the defences that are named, or all; exit status 0 when each was missed."""
    names = list(given) or list(DEFENCES)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="penstock-defences-") as folder:
        seen = run(names, Path(folder, "report.xml"))
    found = {name: [each for each in seen if each.defence == name] for name in names}
    tell(found)
    fresh = {name: {each.test: each.noticed or "" for each in seen} for name, seen in found.items() if missed(seen)}
    write_page(read_page() | fresh, whole=fresh.keys() == DEFENCES.keys())
    strong = fresh.keys() == found.keys()
    say(f"{len(names)} defences, {len(seen)} tests, {time.monotonic() - started:.0f} s")
    say("every defence is missed" if strong else "SOME DEFENCE IS NOT MISSED")
    return 0 if strong else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
