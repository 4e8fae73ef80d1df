"""Every rule and crash point of the design has a defence that can be switched off, and a row of what was seen."""

import re

from tests.defences.design import points, rules
from tests.defences.page import PAGE, first_cells, read_page
from tests.defences.switches import DEFENCES


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
