"""`python -m tests.defences.sweep [NAME…]`: switch off each defence in turn; what is marked with it must fail.

A failure counts only if it is an assertion of the test's own, or the checker's verdict, and if no service met an error
of programming: a switch that no longer fits the product breaks it, which proves nothing. A sweep over all defences in
which each was missed writes docs/defences.md.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from tests.defences.plugin import BROKEN, NOTICED
from tests.defences.switches import DEFENCES, Defence

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "defences.md"
RUN_SECONDS = 600.0
INTRODUCTION = """# What each defence is worth

Crash points of [the design](design.md) have tests that fail when the defence is switched off. The switches are in
`tests/defences/switches.py`, outside the product; `make test-defences` switches off one at a time, on a real Kafka and
a real Postgres, demands that each marked test then fails by an assertion of its own or by the checker's verdict, and
writes this page.

*Lost* is the checker's word for a message that had no answer when the test ended. Only two of these are answers that
never come, `reconciliation` and `await_sends`. In the others something stands still: a second defence refuses to go on
wrongly (`commit_after_store`: I6 halts the partition; `discard_in_flight`, `seek_to_position`: I2 refuses every store;
`second_download`: the slot halts), or nobody may take over (`lease_expiry`). Without `fence` or `producer_first` nobody
goes on while a publisher sleeps; once it woke, the checker found every result once. Where two defences cover each other
so well that either alone suffices, the switch takes both out and says so.
"""


class Seen(NamedTuple):
    """What one test made of a defence that was off: what it noticed, or why that does not count."""

    test: str
    noticed: str | None
    otherwise: str


def run(name: str, report: Path) -> list[Seen]:
    """Run the tests that are marked with a defence, without it."""
    command = [sys.executable, "-m", "pytest", "tests", "--quiet", "--defence-off", name, f"--junit-xml={report}"]
    with report.with_suffix(".log").open("wb") as log:
        subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, timeout=RUN_SECONDS, check=False)
    if not report.exists():
        return [Seen("", None, report.with_suffix(".log").read_text()[-2000:])]
    return [read(case) for case in ET.parse(report).iter("testcase")]


def read(case: ET.Element) -> Seen:
    """One test of a report."""
    told = {each.get("name"): each.get("value") for each in case.iter("property")}
    if BROKEN in told:
        return Seen(case.get("name", ""), None, f"the switch does not fit the product any more: {told[BROKEN]}")
    if case.find("error") is not None:
        return Seen(case.get("name", ""), None, "an error of the harness")
    if case.find("failure") is None:
        return Seen(case.get("name", ""), None, "it passed")
    return Seen(case.get("name", ""), told.get(NOTICED), "it failed, but not by an assertion of its own")


def missed(found: Sequence[Seen]) -> bool:
    """Whether a defence was missed: by every test that is marked with it, and by one at least."""
    return bool(found) and all(each.noticed for each in found)


def sweep(names: Sequence[str]) -> dict[str, list[Seen]]:
    """Switch off one defence after the other, and tell as it goes."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="penstock-defences-") as folder:
        for name in names:
            started = time.monotonic()
            found[name] = run(name, Path(folder, f"{name}.xml"))
            verdict = "missed" if missed(found[name]) else "NOT MISSED"
            tell(f"{name:28} {verdict}, {time.monotonic() - started:.0f} s")
            for test, noticed, otherwise in found[name]:
                tell(f"    {test}: {noticed or otherwise}")
            if not found[name]:
                tell("    no test is marked with it")
    return found


def tell(line: str) -> None:
    """Print at once."""
    print(line, flush=True)  # noqa: T201 - the program's answer


def page(found: dict[str, list[Seen]], seconds: float) -> str:
    """The table, for docs/defences.md."""
    lines = [INTRODUCTION, "| point | rule | without it | test | saw |", "|---|---|---|---|---|"]

    def order(defence: Defence) -> tuple[int, ...]:
        return defence.points

    for defence in sorted(DEFENCES.values(), key=order):
        points = ", ".join(map(str, defence.points))
        for test, noticed, _ in found[defence.name]:
            lines.append(f"| {points} | {defence.rules} | {defence.off} (`{defence.name}`) | `{test}` | {noticed} |")
    tests = {each.test for seen in found.values() for each in seen}
    machine = (
        f"{os.cpu_count()} processors, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )
    lines += [
        "",
        f"{len(found)} defences, {len(tests)} tests; {datetime.now(UTC):%Y-%m-%d}, {seconds:.0f} s on {machine}.",
        "",
    ]
    return "\n".join(lines)


def main(given: Sequence[str]) -> int:
    """Sweep over the defences that are named, or all; exit status 0 when each was missed."""
    started = time.monotonic()
    found = sweep(given or list(DEFENCES))
    strong = all(map(missed, found.values()))
    if strong and not given:
        PAGE.write_text(page(found, time.monotonic() - started))
    tell("every defence is missed" if strong else "SOME DEFENCE IS NOT MISSED")
    return 0 if strong else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
