from collections import Counter
from itertools import pairwise

import msgspec
import pytest

from batchsim.rules import Rule
from tests.soak.schedule import REPLICAS, WITNESS, Act, What, draw
from tests.soak.storms import ALWAYS, STORMS

SECONDS = 1800.0
SEEDS = [str(number) for number in range(20)]


def kills(acts: list[Act]) -> list[Act]:
    return [each for each in acts if each.what is What.KILL]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_draws_the_same_schedule_again(seed: str) -> None:
    assert draw(seed, SECONDS) == draw(seed, SECONDS) != draw(f"{seed}0", SECONDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_half_an_hour_meets_everything_several_times(seed: str) -> None:
    acts = draw(seed, SECONDS)
    met = Counter(act.what for act in acts)
    assert all(met[what] >= 5 for what in What)
    assert SECONDS / 30 < met[What.KILL] < SECONDS / 15
    assert {each.replica for each in kills(acts)} == set(range(REPLICAS)) - {WITNESS}
    assert set(Counter(kind for act in acts for kind in act.storms)) == set(STORMS)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_fails_is_there_again_before_it_fails_anew_and_before_the_end(seed: str) -> None:
    acts = draw(seed, SECONDS)
    about_replicas = [each for each in acts if each.what in (What.KILL, What.PAUSE)]
    kinds = [[each for each in acts if each.what is what] for what in What]
    for kind in [about_replicas, *kinds]:
        assert all(first.ends_at < second.at_seconds for first, second in pairwise(kind))
    assert all(act.ends_at < SECONDS for act in acts)


def test_every_storm_is_made_of_rules_that_the_simulator_takes() -> None:
    for rules in (*STORMS.values(), ALWAYS):
        assert msgspec.convert(rules, list[Rule])
