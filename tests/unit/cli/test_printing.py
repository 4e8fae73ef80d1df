import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from penstock.cli.printing import age, money, print_json, since, size


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""),
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (61, "1 min 1 s"),
        (3600 + 59, "1 h 0 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_ages_are_told_in_two_units(seconds: float | None, said: str) -> None:
    assert age(seconds) == said


def test_moments_are_told_by_how_long_ago_they_were() -> None:
    assert since(None) == ""
    assert since(datetime.now(UTC) - timedelta(minutes=5, seconds=2)) == "5 min 2 s"
    assert since(datetime.now(UTC) + timedelta(seconds=5)) == "0.0 s"


@pytest.mark.parametrize(("count", "said"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 KB"), (2.5e12, "2.5 TB")])
def test_sizes_are_told_in_decimal_units(count: float, said: str) -> None:
    assert size(count) == said


@pytest.mark.parametrize(("usd", "said"), [(0, "$0.00"), (0.0042, "$0.0042"), (1234.5, "$1,234.50"), (None, "")])
def test_small_amounts_are_not_rounded_away(usd: float | None, said: str) -> None:
    assert money(usd) == said


@dataclass(frozen=True, slots=True)
class Thing:
    name: str


def test_what_json_has_no_type_for_is_told_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    print_json({"a": moment, "b": uuid.UUID(int=1), "c": Decimal("0.5"), "d": b"\xffx", "e": [Thing("ü")]})
    assert json.loads(capsys.readouterr().out) == {
        "a": "2026-01-02T03:04:05+00:00",
        "b": str(uuid.UUID(int=1)),
        "c": 0.5,
        "d": "\ufffdx",
        "e": [{"name": "ü"}],
    }
    with pytest.raises(TypeError):
        print_json(object())
