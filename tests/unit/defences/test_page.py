"""Every rule and crash point of the design has a defence that can be switched off, and a row of what was seen."""

import re
from pathlib import Path

import pytest

from tests.defences import page as pages
from tests.defences.design import points, rules
from tests.defences.page import PAGE, first_cells, last_whole, read_page, write_page
from tests.defences.switches import DEFENCES
from tests.support.machine import today


def test_the_design_lists_its_rules_and_crash_points() -> None:
    assert {"Identity", "I1", "S3", "B6", "W6", "P8"} <= set(rules())
    assert points() == tuple(range(1, 21))


def test_every_rule_has_a_defence() -> None:
    named = {rule for defence in DEFENCES.values() for rule in defence.named}
    assert not set(rules()) - named, "rules that no switch takes out"
    assert not {each for each in named if re.fullmatch(r"[A-Z]\d", each)} - set(rules()), "rules that are no more"


def test_every_crash_point_has_a_defence() -> None:
    assert {point for defence in DEFENCES.values() for point in defence.points} == set(points())


def test_every_defence_has_a_row_that_says_what_it_does() -> None:
    rows, page = read_page(), PAGE.read_text()
    assert not DEFENCES.keys() - rows.keys(), "make test-defences has not seen them missed"
    assert not [each.name for each in DEFENCES.values() if first_cells(each) not in page], "the page is stale"


def test_a_partial_sweep_keeps_the_date_of_the_last_whole_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text, rows = PAGE.read_text(), read_page()
    assert re.match(r"\d{4}-\d\d-\d\d, \d+ processors, ", last_whole())
    copy = tmp_path / "page.md"
    copy.write_text(text)
    monkeypatch.setattr(pages, "PAGE", copy)
    write_page(rows, whole=False)
    assert copy.read_text() == text, "the page is stale"
    write_page(rows, whole=True)
    assert last_whole().startswith(today())
