"""The provider is away for an hour of virtual time, in otherwise calm weather."""

import pytest

from tests.simulation.__main__ import story
from tests.simulation.run import simulate
from tests.simulation.scenario import CALM, HOUR, START
from tests.simulation.world import World

SEEDS = 500


def go_away(world: World) -> None:
    """Soon after the first requests, for an hour."""
    world.scenario.weather = CALM
    world.provider.away_from = START + world.chance.random() * HOUR
    world.provider.away_until = world.provider.away_from + HOUR
    world.wake(world.provider.away_until - world.now)


@pytest.mark.outcome("provider-down")
def test_a_provider_that_is_away_for_an_hour_fails_nothing_and_is_paid_once() -> None:
    waited = 0
    for seed in range(SEEDS):
        run = simulate(seed, go_away)
        if run.failure is not None:
            pytest.fail(story(seed, run))
        world = run.world
        provider = world.provider
        assert max(provider.executed) <= 1, f"seed {seed} pays twice"
        assert not [each for each in provider.batches if provider.is_away(each.created_at)]
        waited += any(provider.is_away(at) for at in world.judge.creates)
    assert waited > SEEDS / 10
