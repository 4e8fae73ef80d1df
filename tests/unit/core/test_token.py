from hypothesis import given
from hypothesis import strategies as st

from penstock.core.token import CALIBRATION_RANGE, HEADROOM, TOKENS_MIN, calibrate, estimate, expected


def test_an_estimate_is_a_token_for_four_bytes_and_never_nothing() -> None:
    assert [estimate(size) for size in (0, 1, 4, 5, 4000)] == [TOKENS_MIN + each for each in (0, 1, 1, 2, 1000)]


@given(st.floats(*CALIBRATION_RANGE), st.integers(-1, 10**9), st.integers(-1, 10**9))
def test_a_factor_stays_inside_its_range_whatever_is_reported(factor: float, estimated: int, used: int) -> None:
    low, high = CALIBRATION_RANGE
    assert low <= calibrate(factor, estimated, used) <= high


def test_a_factor_nears_what_batches_really_use() -> None:
    factor = 1.0
    for _ in range(30):
        factor = calibrate(factor, 1000, 3000)
    assert abs(factor - 3.0) < 0.01


def test_a_batch_that_reports_nothing_teaches_nothing() -> None:
    assert calibrate(1.7, 1000, 0) == calibrate(1.7, 0, 1000) == 1.7


def test_reservations_have_headroom() -> None:
    assert expected(1000, 2.0) == 2000 * HEADROOM
    assert expected(1, 1.0) == 2
