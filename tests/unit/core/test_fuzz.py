"""Some thousand messages by chance; a million with ``make fuzz``."""

from functools import partial

import jiter
import pytest

from penstock.core import request
from penstock.core.reasons import REASONS
from tests.fuzz.__main__ import run
from tests.fuzz.judge import ACCEPTED

INPUTS = 4000


def test_messages_by_chance_are_requests_or_dead_letters_with_a_reason() -> None:
    counts, _ = run(seed=0, first=0, inputs=INPUTS)
    assert counts.total() == INPUTS
    assert INPUTS / 5 < counts[ACCEPTED] < INPUTS / 2
    assert counts.keys() == {ACCEPTED, *REASONS} - {"result_too_large"}, "each reason of intake is met"


def test_a_parser_that_lets_a_key_be_given_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    lenient = partial(jiter.from_json, cache_mode="none")
    monkeypatch.setattr(request, "from_json", lambda value, **_: lenient(value))
    with pytest.raises(AssertionError, match="input"):
        run(seed=0, first=0, inputs=INPUTS)


def test_a_parser_that_does_not_name_the_frame_of_a_schema_registry_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "is_framed", lambda _: False)
    with pytest.raises(AssertionError, match="input"):
        run(seed=0, first=0, inputs=INPUTS)
