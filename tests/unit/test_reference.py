import tomllib
from typing import Any

import pytest

from penstock.core.lane import LaneKey, LanePolicy
from penstock.core.lanes_file import parse_lanes
from penstock.settings import Section, Settings
from tests.support.reference import COMMAND, EXAMPLE, FOLDER, PAGES, catalogue, docstrings


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_says_what_the_code_does(name: str) -> None:
    page = FOLDER / name
    fresh = page.exists() and page.read_text() == PAGES[name]()
    assert fresh, f"docs/reference/{name} is stale: {COMMAND}"


def test_every_setting_has_a_description() -> None:
    sections: list[Any] = [Settings]
    sections += [type(field.default) for field in Settings.model_fields.values() if isinstance(field.default, Section)]
    assert len(sections) > 10
    for section in sections:
        for name, field in section.model_fields.items():
            described = field.description or (field.default.__doc__ if isinstance(field.default, Section) else "")
            assert described, f"{section.__name__}.{name}"
            assert described.endswith("."), described


def test_every_key_of_a_lane_is_explained() -> None:
    assert set(docstrings(LanePolicy)) == set(LanePolicy.__dataclass_fields__)


def test_every_metric_is_in_the_reference() -> None:
    page = PAGES["metrics.md"]()
    assert all(f"| `{entry.name}` |" in page for entry in catalogue().values())


def test_the_example_of_a_lanes_file_can_be_used() -> None:
    lanes = parse_lanes(tomllib.loads(EXAMPLE))
    key = LaneKey("account", "/v1/responses", "gpt-4o-mini", "")
    assert lanes.policy(key).name == "mini"


def test_no_secret_has_a_default() -> None:
    page = PAGES["settings.md"]()
    rows = [line for line in page.splitlines() if "| secret |" in line]
    assert len(rows) >= 3
    assert all("| secret |  |" in line for line in rows)
