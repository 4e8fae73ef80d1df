"""The memory of replicas, sampled while they live."""

import asyncio
import statistics
import time
from collections.abc import Sequence

import psutil

from tests.soak.havoc import Replica
from tests.soak.schedule import WITNESS

SAMPLE_SECONDS = 1.0
LIMIT_MIB = 256.0
GROWTH_MIB = 24.0
"""How much more the witness may hold in the last third of its life than in the first: the median of each."""
WARM_SECONDS = 60.0
"""What a process loads and fills for the first time is no growth."""
MIB = 1 << 20


class Memory:
    """Resident memory in MiB: the most of any replica, and the whole course of the one that is never killed."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = replicas
        self.peak = 0.0
        self.witness: list[float] = []

    async def sample(self) -> None:
        """Look every second, for ever."""
        warm_at = time.monotonic() + WARM_SECONDS
        while True:
            for number, replica in enumerate(self.replicas):
                mib = resident(replica)
                self.peak = max(self.peak, mib)
                if number == WITNESS and time.monotonic() > warm_at:
                    self.witness.append(mib)
            await asyncio.sleep(SAMPLE_SECONDS)

    @property
    def thirds(self) -> tuple[float, float]:
        """The witness' median in its first and in its last third."""
        third = max(1, len(self.witness) // 3)
        return statistics.median(self.witness[:third] or [0.0]), statistics.median(self.witness[-third:] or [0.0])

    def problems(self) -> list[str]:
        """What is wrong with it."""
        first, last = self.thirds
        found = []
        if self.peak >= LIMIT_MIB:
            found.append(f"a replica held {self.peak:.0f} MiB; {LIMIT_MIB:.0f} MiB is the limit")
        if last - first > GROWTH_MIB:
            found.append(f"a replica grew from {first:.0f} to {last:.0f} MiB")
        return found


def resident(replica: Replica) -> float:
    """What a replica holds now; 0 when it is dead."""
    if not replica.running:
        return 0.0
    try:
        return float(psutil.Process(replica.service.pid).memory_info().rss) / MIB
    except psutil.NoSuchProcess:
        return 0.0
