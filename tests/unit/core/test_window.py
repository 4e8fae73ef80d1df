from collections import deque

import pytest

from penstock.core.lane import EMBEDDINGS, LanePolicy
from penstock.core.window import PROBE_REQUESTS, WindowLimits, creates_allowed, limits_of, probe_next


def test_limits_in_force() -> None:
    policy = LanePolicy(requests_max=1000, inputs_max=500, enqueued_tokens_max=46_000)
    assert limits_of(policy, EMBEDDINGS, 1, 1.0, probe=False) == WindowLimits(1000, 200_000_000, 500, 10_000)
    assert limits_of(policy, "/v1/responses", None, 2.0, probe=True) == WindowLimits(
        PROBE_REQUESTS, 200_000_000, 1000, 5_000
    )
    unset = LanePolicy()
    assert limits_of(unset, EMBEDDINGS, None, 1.0, probe=False).tokens is None
    assert limits_of(unset, EMBEDDINGS, 46_000, 1.0, probe=False).tokens == 10_000
    assert limits_of(unset, EMBEDDINGS, 1, 20.0, probe=False).tokens == 1


@pytest.mark.parametrize(
    ("batch", "probing"),
    [
        ((250, 250, 250, 250), True),
        ((20, 11, 31, 20), True),
        ((20, 10, 31, 21), False),
        ((250, 100, 250, 100), False),
        ((5, 0, 5, 0), False),
    ],
    ids=str,
)
def test_a_lane_probes_when_most_first_attempts_failed(batch: tuple[int, int, int, int], *, probing: bool) -> None:
    assert probe_next(*batch) is probing


@pytest.mark.defence("probe_sample")
@pytest.mark.parametrize("batch", [(0, 0, 11, 11), (2, 2, 13, 13), (19, 19, 19, 19)], ids=str)
def test_a_few_requests_that_always_fail_do_not_say_that_the_provider_is_ill(batch: tuple[int, int, int, int]) -> None:
    """Off: a batch of doomed requests has the whole lane wait for small probes."""
    assert probe_next(*batch) is None, "too few first attempts decide"


@pytest.mark.parametrize("per_hour", [1, 2, 7, 100, 2000])
@pytest.mark.parametrize("lag_seconds", [0, 30, 900])
def test_sealing_by_age_stays_within_the_creates_of_any_hour(per_hour: int, lag_seconds: int) -> None:
    """A thousand lanes are due all the time; what is sealed is created after a lag."""
    created: deque[int] = deque()
    waiting: deque[int] = deque()
    last_at, most, sealed = 0, 0, 0
    for now in range(3 * 3600 + 1):
        while waiting and waiting[0] <= now - lag_seconds:
            created.append(now)
            waiting.popleft()
        while created and created[0] <= now - 3600:
            created.popleft()
        allowed = min(1000, creates_allowed(len(created), len(waiting), per_hour, now - last_at))
        assert allowed >= 0
        if allowed:
            last_at = now
            waiting.extend([now] * allowed)
            sealed += allowed
        most = max(most, len(created) + len(waiting))
    assert most <= per_hour
    assert sealed >= per_hour


def test_half_of_the_creates_are_free_and_the_rest_is_paced() -> None:
    assert creates_allowed(0, 0, 2000, 0) == 1000
    assert creates_allowed(600, 399, 2000, 0) == 1
    assert creates_allowed(600, 400, 2000, 0.5) == 0
    assert creates_allowed(600, 400, 2000, 18.0) == 10
    assert creates_allowed(1000, 995, 2000, 3600.0) == 5
    assert creates_allowed(1500, 600, 2000, 3600.0) == 0
