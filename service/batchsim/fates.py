"""Which lines of a batch are executed, and what goes wrong with which: decided by seed, batch id and custom_id."""

from collections.abc import Sequence
from math import floor
from random import Random
from typing import NamedTuple

from batchsim.chance import draw
from batchsim.rules import LineFault

ROUNDING = 1e-9


class Fates(NamedTuple):
    """By index of the line: what goes wrong, and which were never reached. All others are executed properly."""

    faults: dict[int, LineFault]
    undone: frozenset[int]


def decide_fates(
    seed: str, batch_id: str, custom_ids: Sequence[str], line_faults: Sequence[LineFault], done_fraction: float
) -> Fates:
    """Rank the lines by hash; the last ones are not done, the first ones take the faults in their order.

    A request that is sent again in another batch is ranked anew, so it can succeed.
    """
    total = len(custom_ids)
    ranked = sorted(range(total), key=lambda index: draw(seed, batch_id, "fate", custom_ids[index]))
    done = floor(total * done_fraction + ROUNDING)
    faults: dict[int, LineFault] = {}
    for fault in line_faults:
        untouched = ranked[len(faults) : done]
        if fault.count is not None:
            untouched = untouched[: fault.count]
        elif fault.fraction is not None:
            untouched = untouched[: round(total * fault.fraction)]
        faults.update(dict.fromkeys(untouched, fault))
    return Fates(faults, frozenset(ranked[done:]))


def shuffled(seed: str, batch_id: str, purpose: str, indices: Sequence[int]) -> list[int]:
    """The indices in another order than given (if there is another), the same for the same seed, batch and purpose."""
    order = list(indices)
    Random(f"{seed}:{batch_id}:{purpose}").shuffle(order)  # noqa: S311  repeatable, not secret
    return order if order != list(indices) else order[::-1]
