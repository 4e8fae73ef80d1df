"""What is expected of the messages of one partition, in arrays: 73 bytes a message."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from tests.checker.expectation import Expected

WIDTH = len(Expected._fields)
EXECUTION = Expected._fields.index("execution")
COUNT_MAX = 255


class Shelf:
    """The messages of one partition, added in the order of their offsets, and how often each has come out."""

    def __init__(self) -> None:
        self.offsets = array("Q")
        self.rows = array("Q")
        self.committed = bytearray()
        self.seen = bytearray()

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, offset: int, expected: Expected) -> None:
        """Put a message at the end."""
        assert not self.offsets or offset > self.offsets[-1], "messages come in the order of their offsets"
        self.offsets.append(offset)
        self.rows.extend(expected)
        self.committed.append(0)
        self.seen.append(0)

    def find(self, offset: int) -> int | None:
        """The index of a message."""
        index = bisect_left(self.offsets, offset)
        return index if index < len(self.offsets) and self.offsets[index] == offset else None

    def expected(self, index: int) -> Expected:
        """What belongs to a message."""
        return Expected(*self.rows[index * WIDTH : (index + 1) * WIDTH])

    def executions(self) -> Iterator[int]:
        """The execution fingerprint of every message."""
        return iter(self.rows[EXECUTION::WIDTH])


def count_up(counts: bytearray, index: int) -> int:
    """Count one more; the count stops at 255."""
    counts[index] = min(counts[index] + 1, COUNT_MAX)
    return counts[index]
