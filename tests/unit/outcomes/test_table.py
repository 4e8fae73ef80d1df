"""Every row of docs/outcomes.md has a test, every mark a row, and the page says so."""

from collections import Counter

from tests.outcomes.page import PAGE, page
from tests.outcomes.table import SECTIONS, marked, rows


def test_every_row_has_a_test_on_real_servers_or_in_virtual_time() -> None:
    proven = {name for name, tests in marked().items() if any(not test.startswith("unit/") for test in tests)}
    assert [row.name for row in rows() if row.name not in proven] == []


def test_every_mark_has_a_row() -> None:
    assert sorted(marked().keys() - {row.name for row in rows()}) == []


def test_no_row_is_there_twice() -> None:
    names = Counter(row.name for row in rows())
    assert max(names.values()) == 1
    assert len(names) > 80
    assert len(SECTIONS) == 3


def test_the_page_is_fresh() -> None:
    assert PAGE.exists(), "make docs"
    assert PAGE.read_text() == page(), "make docs"
