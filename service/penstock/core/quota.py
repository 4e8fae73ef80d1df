"""Which sealed batches may be submitted now, under a model's enqueued-token limit."""

import re
import uuid
from collections.abc import Sequence
from typing import NamedTuple

LIMIT_WORDS = re.compile(r"Limit:\s*([\d,_]+)\s*enqueued tokens", re.IGNORECASE)


class Waiting(NamedTuple):
    """A sealed batch that asks for its tokens (expected, not nominal)."""

    batch_id: uuid.UUID
    tokens: int


def grants(
    waiting: Sequence[Waiting], enqueued: int, running: int, limit: int | None, *, probing: bool
) -> list[Waiting]:
    """The batches whose tokens are reserved now, oldest first; the first that does not fit holds back the younger.

    Args:
        waiting: sealed batches of one account and model, oldest first.
        enqueued: tokens reserved already.
        running: batches that hold a reservation.
        limit: the model's limit in tokens; None when it is not known, then nothing is held back.
        probing: the limit was hit and is not known: one batch at a time finds it.

    A batch larger than the whole limit goes alone on an idle model, and its refusal is final (S2).
    """
    if probing and limit is None:
        return list(waiting[:1]) if running == 0 else []
    if limit is None:
        return list(waiting)
    granted: list[Waiting] = []
    for each in waiting:
        if enqueued + each.tokens > limit and (enqueued or granted):
            break
        granted.append(each)
        enqueued += each.tokens
    return granted


def learned_limit(message: str) -> int | None:
    """The limit that a `token_limit_exceeded` message names, in tokens."""
    found = LIMIT_WORDS.search(message)
    return int(found[1].replace(",", "").replace("_", "")) if found else None
