import pytest

from batchsim.errors import ApiError
from batchsim.rate import HOUR_SECONDS, MINUTE_SECONDS, duration, take


def test_a_call_within_its_rate_is_told_what_is_left() -> None:
    assert take("uploads", "files", 1000, 999, MINUTE_SECONDS) == {
        "x-ratelimit-limit-requests": "1000",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
    }


def test_a_call_beyond_its_rate_is_told_when_to_come_back() -> None:
    with pytest.raises(ApiError, match="2 batches per hour") as raised:
        take("batch creation", "batches", 2, 2, HOUR_SECONDS)
    assert raised.value.status == 429
    assert raised.value.headers["retry-after"] == "60"
    assert raised.value.headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.012, "12ms"), (1.8, "1.8s"), (59, "59s"), (360, "6m0s"), (3600, "1h0m0s")]
)
def test_a_duration_is_written_as_the_api_writes_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text
