"""Whose turn it is to be sealed: priority comes first, and within one the tenants take turns."""

import zlib
from enum import IntEnum
from typing import NamedTuple

from penstock.core.reasons import rejected

SHARES = 16
"""Tenants are hashed into so many shares: chunks of a gathering, and work at a seal, stay bounded whatever tenants
there are."""
SHARE_REQUESTS = 20
"""Shares of which a gathering brings fewer requests are stored together: at a trickle each chunk would hold one."""


class Priority(IntEnum):
    """What goes first; stored as its number."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


PRIORITIES = {each.name.lower().encode(): each for each in Priority}
"""By the header's value."""


class Turn(NamedTuple):
    """What requests must have in common to share a chunk, beside lane and topic."""

    priority: int = Priority.NORMAL
    share: int = 0


USUAL = Turn()
"""Of a request that says nothing of tenant and priority."""


def share_of(tenant: str) -> int:
    """The share of a tenant; that of requests without one is 0."""
    return zlib.crc32(tenant.encode()) % SHARES


def read_priority(value: bytes | None) -> Priority:
    """A priority from its header.

    Raises:
        RejectedMessage: it is none.
    """
    found = PRIORITIES.get(value or b"")
    if found is None:
        raise rejected("invalid_priority")
    return found
