"""What `make chaos` strikes, and with which workload."""

import pytest

import penstock.app  # noqa: F401 - imports every failpoint
from penstock.telemetry.failpoint import NAMES, arm
from tests.chaos.case import Action, Case
from tests.chaos.scenario import ONCE_ONLY, OTHERS, SCENARIOS, scenario_of


def test_workloads_are_chosen_for_failpoints_that_there_are() -> None:
    named = [name for reached in OTHERS.values() for name in reached]
    assert len(named) == len(set(named))
    assert {*named, *(name for name, _ in ONCE_ONLY)} <= NAMES
    assert {scenario_of(name) for name in NAMES} == SCENARIOS.keys()


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("times", [1, 2])
def test_what_a_replica_is_armed_with_can_be_read(action: Action, times: int) -> None:
    for struck in range(times):
        arm(Case("intake.store", action, times).arm(struck))
    arm("")


def test_of_two_that_are_killed_the_first_dies_before_its_effect_and_the_second_after() -> None:
    case = Case("intake.store", Action.KILL, 2)
    assert [case.arm(struck).partition(";")[0] for struck in range(2)] == [
        "intake.store=before:kill",
        "intake.store=after:kill",
    ]
