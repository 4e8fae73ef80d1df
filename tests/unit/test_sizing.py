"""docs/sizing.md against its own formulas, the settings and the chart's values."""

import re
from pathlib import Path

import pytest
import yaml

from penstock.settings import SpoolSettings
from tests.support.chart import CHART

PAGE = (Path(__file__).parents[2] / "docs" / "sizing.md").read_text()
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if re.match(r"\| [0-9,]+( million)? \|", line)]
WAL_HOURS, REST_GB = 2, 10


def gigabytes(cell: str) -> float:
    """A cell's number."""
    return float(cell.removesuffix(" GB"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_disk_is_what_its_formula_says(row: list[str]) -> None:
    waits, history, wal, disk = map(gigabytes, row[5:])
    needed = 2 * (waits + history) + wal * WAL_HOURS / 24 + REST_GB
    assert disk == pytest.approx(needed, rel=0.02, abs=1.0)


def test_the_spool_is_as_large_as_settings_and_chart_have_it() -> None:
    assert len(ROWS) == 4
    spool, own = yaml.safe_load((CHART / "values.yaml").read_text())["spool"], SpoolSettings()
    said = re.search(r"disk: (\d+) \+ (\d+) GiB by default, and (\d+) \+ (\d+) with the chart", " ".join(PAGE.split()))
    assert said
    assert [int(each) for each in said.groups()] == [
        own.upload_bytes_max >> 30,
        own.download_bytes_max >> 30,
        spool["uploadGiB"],
        spool["downloadGiB"],
    ]
