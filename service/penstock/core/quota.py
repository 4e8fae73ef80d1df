"""Which sealed batches may be submitted now, under a model's enqueued-token limit, and how many are sealed ahead."""

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from penstock.core.token import expected

LEARNED_SECONDS = 86_400.0
"""A learned limit is believed for so long; then one batch asks again, since accounts rise in tier."""
LIMIT_WORDS = re.compile(r"Limit:\s*([\d,_]+)\s*enqueued tokens", re.IGNORECASE)


class Waiting(NamedTuple):
    """A sealed batch that asks for its tokens (expected, not nominal)."""

    batch_id: uuid.UUID
    tokens: int


class Reserved(NamedTuple):
    """What a model's batches have reserved: tokens, by how many batches; and how many ask whether there is room.

    Those that ask are not taken yet, or were refused and not learned from yet.
    """

    tokens: int
    batches: int
    unproven: int


NOTHING_RESERVED = Reserved(0, 0, 0)


def grants(
    waiting: Sequence[Waiting], reserved: Reserved, limit: int | None, *, unproven_max: int = 1, probing: bool
) -> list[Waiting]:
    """The batches whose tokens are reserved now, oldest first; the first that does not fit holds back the younger.

    Args:
        waiting: sealed batches of one account and model, oldest first.
        reserved: what is reserved already.
        limit: the model's limit in tokens; None when it is not known: then a few batches at a time ask the provider, by
            being validated, whether there is room for them, and at most those are refused.
        unproven_max: how many ask at a time: 1 at first, doubled by each that gets past validation, 1 again after a
            refusal for tokens.
        probing: the limit was hit and not named: one batch alone, until one has ended well.

    A batch larger than the whole limit goes alone on an idle model, and its refusal is final (S2).
    """
    if limit is None:
        if probing and reserved.batches:
            return []
        return list(waiting[: max(0, unproven_max - reserved.unproven)])
    granted: list[Waiting] = []
    enqueued = reserved.tokens
    for each in waiting:
        if enqueued + each.tokens > limit and (enqueued or granted):
            break
        granted.append(each)
        enqueued += each.tokens
    return granted


class Ahead(NamedTuple):
    """What is sealed of a model and waits for tokens: batches, and their nominal tokens."""

    batches: int
    tokens: int

    def plus(self, other: "Ahead") -> "Ahead":
        """The sum."""
        return Ahead(self.batches + other.batches, self.tokens + other.tokens)


NOTHING_AHEAD = Ahead(0, 0)
BATCHES_AHEAD = 2
"""While a limit is not known, one batch asks at a time: another one or two stand ready."""


def due_ahead(windows: Sequence[tuple[int, int]], ahead: Mapping[int, Ahead], limit: int | None, factor: float) -> int:
    """How many windows are to be sealed now, of those that could be: what is sealed later is filled more fairly.

    A window waits while what is sealed already fills the model's next load; what has a lower priority than it does not
    count, since it overtakes that.

    Args:
        windows: priority and nominal tokens of each, in order.
        ahead: what is sealed and waits for tokens, by priority.
        limit: the model's limit in tokens; None when it is not known.
        factor: real tokens of a nominal one.
    """
    waiting = dict(ahead)
    for number, (priority, tokens) in enumerate(windows):
        batches, enqueued = map(
            sum, zip((0, 0), *(each for of, each in waiting.items() if of <= priority), strict=True)
        )
        if batches >= BATCHES_AHEAD if limit is None else expected(enqueued, factor) >= limit:
            return number
        waiting[priority] = waiting.get(priority, NOTHING_AHEAD).plus(Ahead(1, tokens))
    return len(windows)


def learned_limit(message: str) -> int | None:
    """The limit that a `token_limit_exceeded` message names, in tokens."""
    found = LIMIT_WORDS.search(message)
    return int(found[1].replace(",", "").replace("_", "")) if found else None
