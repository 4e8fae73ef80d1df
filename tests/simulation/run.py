"""A seed, from the first message until everything is answered."""

import random
from collections.abc import Callable
from typing import NamedTuple

from tests.simulation.publishing import publish
from tests.simulation.sealing import seal, take_in
from tests.simulation.submitting import grant, submit
from tests.simulation.watching import collect, operate, watch
from tests.simulation.world import World

STEPS_MAX = 20_000
STAGES: tuple[Callable[[World], None], ...] = (take_in, seal, grant, submit, watch, collect, publish, operate)
ORDERS = [random.Random(seed).sample(STAGES, len(STAGES)) for seed in range(200)]
"""Orders in which the stages may run; drawing from them is quicker than shuffling."""


class Run(NamedTuple):
    """What became of a seed."""

    world: World
    steps: int
    failure: BaseException | None


def simulate(seed: int, prepare: Callable[[World], None] = lambda _: None) -> Run:
    """Run a seed; never raises: what a property or the service's own code raises is the run's failure.

    Args:
        seed: of the world.
        prepare: changes the world before it begins.
    """
    world = World(seed)
    prepare(world)
    steps = 0
    try:
        while not finished(world) and steps < STEPS_MAX:
            steps += 1
            step(world)
        for remote in world.provider.batches:
            world.provider.finish(remote)
        world.judge.close(world.provider.executed, [each for each in world.reservations if not each.open])
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed has found it
        return Run(world, steps, error)
    return Run(world, steps, None)


def step(world: World) -> None:
    """One round of the stages, in any order, some of them away."""
    world.advance()
    down = world.provider.weather(world.now).stage_down
    before = len(world.trace)
    for stage in ORDERS[int(world.chance.random() * len(ORDERS))]:
        if not down or world.chance.random() >= down:
            stage(world)
    if len(world.trace) > before:
        world.judge.in_one_place(world.places())


def finished(world: World) -> bool:
    """Whether everything has arrived and is answered, and the provider has nothing of ours any more."""
    return (
        world.polled == len(world.scenario.polls)
        and not world.live
        and not any(lane.chunks for lane in world.lanes.values())
    )
