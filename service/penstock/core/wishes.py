"""What a message's headers ask for: whom it is for, by when it must be answered, how soon it goes, and where to."""

import math
import re
from collections.abc import Container
from typing import NamedTuple

from penstock.core.chunk import Headers, headers_bytes
from penstock.core.reasons import rejected
from penstock.core.result import (
    DEADLINE_HEADER,
    HEADERS_BYTES_MAX,
    PRIORITY_HEADER,
    RESULT_TOPIC_HEADER,
    TENANT_HEADER,
)
from penstock.core.turn import Priority, read_priority

SECONDS = re.compile(rb"(?=[0.]*[1-9])[0-9]{1,9}(\.[0-9]{1,9})?")
"""A number of seconds above 0, as docs/contracts has it."""
HEADERS_MAX = 100


class Wishes(NamedTuple):
    """Of one message. Its lane decides what it does not ask for, and bounds ``seconds``, the time to its deadline."""

    tenant: str = ""
    priority: Priority = Priority.NORMAL
    seconds: float = math.inf
    result_topic: str = ""


NO_WISHES = Wishes()
"""Of a message without headers."""


def read_wishes(headers: Headers, result_topics: Container[str]) -> Wishes:
    """Read a message's headers; the last of a name counts, but of deadlines the first to pass.

    Raises:
        RejectedMessage: one asks for what is not allowed, or they are too many or too large to be kept.
    """
    if len(headers) > HEADERS_MAX or headers_bytes(headers) > HEADERS_BYTES_MAX:
        raise rejected("headers_too_large", count=HEADERS_MAX, limit=HEADERS_BYTES_MAX)
    tenant, priority, seconds, topic = NO_WISHES
    for name, value in headers:
        if name == TENANT_HEADER:
            tenant = decoded(value)
        elif name == DEADLINE_HEADER:
            seconds = min(seconds, read_seconds(value))
        elif name == RESULT_TOPIC_HEADER:
            topic = decoded(value)
            if topic not in result_topics:
                raise rejected("result_topic_not_allowed")
        elif name == PRIORITY_HEADER:
            priority = read_priority(value)
    return Wishes(tenant, priority, seconds, topic)


def decoded(value: bytes | None) -> str:
    """A header's value as text."""
    return (value or b"").decode(errors="replace")


def read_seconds(value: bytes | None) -> float:
    """A number of seconds from a header.

    Raises:
        RejectedMessage: it is none.
    """
    if value is None or SECONDS.fullmatch(value) is None:
        raise rejected("invalid_deadline")
    return float(value)
