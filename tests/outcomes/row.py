"""A row of docs/outcomes.md."""

from typing import NamedTuple


class Row(NamedTuple):
    """What can happen, and what Penstock makes of it. Tests name it: `@pytest.mark.outcome("name")`."""

    name: str
    happens: str
    does: str
