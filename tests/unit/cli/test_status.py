from typing import Any

import pytest

from penstock.cli.status import what_happens
from penstock.settings import PollerSettings

SETTINGS = PollerSettings(cancel_grace_seconds=1800, given_up_seconds=7200)


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ({"asked_seconds": 60.0}, "cancelled 1 min 0 s ago; if the provider cannot be asked about it for 30 min 0 s"),
        ({"told_seconds": 5.0}, "told to stop it 5.0 s ago; if it has not ended 30 min 0 s after that, it is given up"),
        ({"told_seconds": 9.0, "given_up_seconds": 3600.0}, "asked about it for 1 h 0 min more, and its tokens stay"),
        ({"given_up_seconds": 1e9}, "asked about it for 0.0 s more"),
    ],
)
def test_a_batch_that_has_to_end_is_shown_with_what_happens_to_it(batch: dict[str, Any], said: str) -> None:
    unknown = dict.fromkeys(("asked_seconds", "told_seconds", "given_up_seconds"))
    assert said in what_happens({**unknown, **batch}, SETTINGS)
