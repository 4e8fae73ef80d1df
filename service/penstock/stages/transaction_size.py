"""How many bytes of results one Kafka transaction takes: fewer while the brokers take them slowly."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BYTES_MIN = 64 * 1024


class TransactionSize:
    """Follows how long transactions take, of all slots together: brokers hold producers to a quota that they share.

    Args:
        bytes_max: never more than this.
        seconds: what a transaction may take, well below the time-out after which the brokers abort it.
        clock: monotonic, in seconds.
    """

    def __init__(self, bytes_max: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.bytes = self.bytes_max = bytes_max
        self.bytes_min = min(BYTES_MIN, bytes_max)
        self.seconds = seconds
        self.clock = clock

    @contextmanager
    def measured(self) -> Iterator[None]:
        """One transaction, to its commit. A quick failure says nothing of its size."""
        began, size = self.clock(), self.bytes
        try:
            yield
        except Exception:
            if self.clock() - began > self.seconds:
                self.shrink_to(size // 4)
            raise
        took = self.clock() - began
        if took > self.seconds:
            self.shrink_to(size // 2)
        elif took < self.seconds / 2:
            self.bytes = min(self.bytes * 2, self.bytes_max)

    def shrink_to(self, size: int) -> None:
        """Take no more than this: several transactions of one size that failed together count once."""
        self.bytes = min(self.bytes, max(size, self.bytes_min))
