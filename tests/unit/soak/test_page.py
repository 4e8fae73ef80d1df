"""docs/soak.md tells of kinds of trouble that the code still has."""

import re

from tests.soak.__main__ import PAGE
from tests.soak.havoc import GOOD_DAY
from tests.soak.schedule import What
from tests.soak.storms import STORMS


def rows(title: str) -> set[str]:
    """The first cells of a table of the page."""
    _, _, rest = PAGE.read_text().partition(f"| {title} | |\n|---|---|\n")
    return set(re.findall(r"^\| (.*?) \|", rest.partition("\n\n")[0], re.MULTILINE))


def test_every_kind_of_trouble_on_the_page_is_one_of_the_code() -> None:
    faults = rows("the provider's faults, by kind, as often as they struck")
    assert faults <= {*STORMS, GOOD_DAY}
    assert GOOD_DAY in faults
    assert rows("done to it") >= set(What)
