from typing import Any

import pytest

from penstock.cli.ending import what_happens
from penstock.settings import PollerSettings

SETTINGS = PollerSettings(cancel_grace_seconds=1800, given_up_seconds=7200)
UNKNOWN = dict.fromkeys(("cancel", "asked_seconds", "told_seconds", "given_up_seconds"))
OPEN = {**UNKNOWN, "state": "submitted", "provider_open": True}
CANCELLED = {"cancel": "answer", "asked_seconds": 60.0}


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (CANCELLED, "cancelled 1 min 0 s ago; a replica tells the provider within a minute; if the provider cannot be"),
        (CANCELLED | {"told_seconds": 5.0}, "told to stop it 5.0 s ago; if it has not ended 30 min 0 s after that, it"),
        ({"told_seconds": 9.0, "given_up_seconds": 3600.0}, "asked about it for 1 h 0 min more; its tokens stay"),
        ({"given_up_seconds": 1e9}, "asked about it for 0.0 s more"),
        (CANCELLED | {"state": "sealed", "provider_open": False}, "cancelled 1 min 0 s ago, before it was sent"),
        (CANCELLED | {"state": "creating", "provider_open": False}, "while its create is in doubt; it waits until"),
    ],
)
def test_a_batch_that_has_to_end_is_shown_with_what_it_waits_for(batch: dict[str, Any], said: str) -> None:
    assert said in (what_happens({**OPEN, **batch}, SETTINGS) or "")


@pytest.mark.parametrize(
    "batch",
    [{}, {"state": "sealed", "provider_open": False}, CANCELLED | {"state": "published", "provider_open": False}],
)
def test_a_batch_that_may_go_on_or_has_ended_is_shown_as_usual(batch: dict[str, Any]) -> None:
    assert what_happens({**OPEN, **batch}, SETTINGS) is None
