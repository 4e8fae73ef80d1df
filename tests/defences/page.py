"""docs/defences.md: what was seen when each defence was off, read and written."""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.defences.design import rules
from tests.defences.switches import DEFENCES, Defence
from tests.support.machine import machine, today

PAGE = Path(__file__).parents[2] / "docs" / "defences.md"
ROW = re.compile(r"^\| .* \(`(?P<defence>\w+)`\) \| `(?P<test>[^`]+)` \| (?P<saw>.*) \|$", re.MULTILINE)
SWEPT = "; the last sweep over all of them: "
Rows = Mapping[str, Mapping[str, str]]
"""What each test saw, by defence."""
INTRODUCTION = """# What each defence is worth

Every rule and crash point of [the design](design.md) has a test that fails when its defence is switched off. The
switches are in `tests/defences/switches`, outside the product; `make test-defences` switches off one at a time, on a
real Kafka and a real Postgres, demands that each marked test then fails by an assertion of its own or by the checker's
verdict, and writes this page.

*Lost* is the checker's word for a message that had no answer when the test ended, in most of these because something
stands still: a second defence refuses to go on wrongly (`commit_after_store`: I6 halts the partition;
`discard_in_flight`, `seek_to_position`: I2 refuses every store; `second_download`: the slot halts), or nobody may take
over (`lease_expiry`). Without `fence` or `producer_first` nobody goes on while a publisher sleeps; once it woke, the
checker found every result once. Where two defences cover each other so well that either alone suffices, the switch
takes both out and says so.

Some clauses have no switch of their own, since nothing exact hangs on them alone: that a slot has its partition of the
ledger to itself (P2; the end that is read past open transactions is what keeps results single), the ten minutes further
back of a look-up (B3), the third of the time-out (P4), a round's budget of calls (W1), and that a deadline is looked at
when a batch is decided (W6; it is again before the next create).

| rule | point | without it | test | saw |
|---|---|---|---|---|
"""


def read_page() -> dict[str, dict[str, str]]:
    """The rows as they are, by defence; those of defences that are no more are left out."""
    rows: dict[str, dict[str, str]] = {}
    for found in ROW.finditer(PAGE.read_text()):
        if found["defence"] in DEFENCES:
            rows.setdefault(found["defence"], {})[found["test"]] = found["saw"]
    return rows


def last_whole() -> str:
    """When and where all defences were last seen missed in one sweep."""
    return PAGE.read_text().rstrip().rpartition(SWEPT)[2]


def first_cells(defence: Defence) -> str:
    """What a row says before the test."""
    points = ", ".join(map(str, defence.points))
    return f"| {defence.rules} | {points} | {defence.off} (`{defence.name}`) |"


def write_page(rows: Rows, *, whole: bool) -> None:
    """Write the page, in the order of the design; a sweep that was not the whole one keeps the date of that."""
    order = rules()

    def place(defence: Defence) -> tuple[int, ...]:
        return min((order.index(each) for each in defence.named if each in order), default=-1), *defence.points

    lines = [
        f"{first_cells(defence)} `{test}` | {saw.replace('|', '/')} |"
        for defence in sorted(DEFENCES.values(), key=place)
        for test, saw in rows.get(defence.name, {}).items()
    ]
    tests = {test for seen in rows.values() for test in seen}
    swept = f"{today()}, {machine()}." if whole else last_whole()
    last = f"{len(rows)} defences, {len(tests)} tests{SWEPT}{swept}"
    PAGE.write_text(f"{INTRODUCTION}{chr(10).join(lines)}\n\n{last}\n")
