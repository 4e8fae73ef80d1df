"""Ten thousand seeds, each some days of the stages' logic, half of them in ``make long``.

Any more with ``make simulate SEEDS=…``.
"""

import pytest

from tests.simulation.__main__ import story
from tests.simulation.run import simulate

BLOCK = 500
USUAL = range(0, 5_000, BLOCK)
MORE = range(5_000, 10_000, BLOCK)


@pytest.mark.parametrize("first", [*USUAL, *(pytest.param(each, marks=pytest.mark.long) for each in MORE)])
@pytest.mark.outcome(
    "limit-requests", "limit-bytes", "limit-inputs", "limit-one-model", "limit-tokens", "creates-per-hour"
)
def test_whatever_happens_every_request_is_answered_once_in_time_and_within_all_limits(first: int) -> None:
    for seed in range(first, first + BLOCK):
        run = simulate(seed)
        if run.failure is not None:
            pytest.fail(story(seed, run))


def test_a_seed_replays_exactly() -> None:
    for seed in range(20):
        assert [str(each) for each in simulate(seed).world.trace] == [str(each) for each in simulate(seed).world.trace]
