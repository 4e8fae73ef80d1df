import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.retry import CALL, SUBMISSION, Backoff

CHANCES = st.floats(0, 1, exclude_max=True)


@given(st.integers(-1, 10**6), CHANCES)
def test_delays_stay_between_half_of_the_first_and_the_last(attempt: int, chance: float) -> None:
    for backoff in (CALL, SUBMISSION, Backoff(60.0, 3600.0)):
        delay = backoff.delay_seconds(attempt, chance)
        assert backoff.first_seconds / 2 <= delay <= backoff.last_seconds


@given(st.integers(1, 40), CHANCES)
def test_delays_never_shrink_with_more_failures(attempt: int, chance: float) -> None:
    assert SUBMISSION.delay_seconds(attempt, chance) <= SUBMISSION.delay_seconds(attempt + 1, chance)


@pytest.mark.parametrize(("attempt", "seconds"), [(0, 2), (1, 2), (2, 4), (3, 8), (4, 10), (99, 10)])
def test_delays_double_up_to_the_last(attempt: int, seconds: float) -> None:
    backoff = Backoff(2.0, 10.0)
    assert backoff.delay_seconds(attempt, 0.0) == seconds / 2
    assert backoff.delay_seconds(attempt, 0.5) == seconds * 0.75
