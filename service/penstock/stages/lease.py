"""Holding leases: one keeper renews all leases of the process, as long as their work moves (B1)."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from penstock.core.errors import Superseded
from penstock.postgres.lease_store import LeaseStore
from penstock.stages.stage import Stage
from penstock.telemetry import metrics

MARGIN = 0.2
"""Share of a lease's time by which the holder stops earlier than the database would let another in."""
STALL_FACTOR = 6
"""A holder that reports no progress for so many lease times is not renewed."""


WORK_SECONDS = 300.0
BYTES_PER_SECOND_MIN = 100_000
"""The slowest transfer that is still waited for."""


def work_seconds(size_bytes: int) -> float:
    """The longest that work on so many bytes may take, whatever progress it reports."""
    return WORK_SECONDS + size_bytes / BYTES_PER_SECOND_MIN


class Lease:
    """A lease as its holder sees it: counted from the holder's own clock *before* it was last renewed.

    Args:
        name: what is leased.
        epoch: rises with every holder; guarded writes compare it.
        seconds: of one renewal.
        work_seconds_max: total time after which it is not renewed, whatever the progress.
        asked_at: monotonic time before it was acquired.
    """

    def __init__(self, name: str, epoch: int, seconds: float, work_seconds_max: float, asked_at: float) -> None:
        self.name = name
        self.epoch = epoch
        self.seconds = seconds
        self.ends_at = asked_at + work_seconds_max
        self.progressed_at = asked_at
        self.held_until = asked_at + seconds * (1 - MARGIN)
        self.lost = False

    @property
    def held(self) -> bool:
        """Whether it is certainly still ours: effects outside Postgres may start only then."""
        return not self.lost and time.monotonic() < self.held_until

    def require(self) -> None:
        """Assert that it is held, right before an effect outside Postgres.

        Raises:
            Superseded: it is not.
        """
        if not self.held:
            raise Superseded(f"lease {self.name} ran out")

    def progress(self) -> None:
        """The work moved; raises when the lease is gone, so that long work stops by itself."""
        self.progressed_at = time.monotonic()
        self.require()

    def touch(self) -> None:
        """The work moved, inside a transaction that has locked the lease: nobody can take it before its end."""
        self.progressed_at = time.monotonic()

    def worth_renewing(self, now: float) -> bool:
        """Whether the work moves and is inside its time."""
        return not self.lost and now < self.ends_at and now - self.progressed_at < self.seconds * STALL_FACTOR


class LeaseKeeper(Stage):
    """Acquires, renews and releases the leases of this process."""

    name = "lease"

    def __init__(self, drain: asyncio.Event, store: LeaseStore) -> None:
        super().__init__(drain)
        self.store = store
        self.leases: dict[str, Lease] = {}

    async def acquire(self, name: str, work_seconds_max: float = float("inf")) -> Lease | None:
        """A lease that nobody holds, or None."""
        asked_at = time.monotonic()
        epoch = await self.store.acquire_lease(name)
        return None if epoch is None else self.adopt(name, epoch, asked_at, work_seconds_max)

    def adopt(self, name: str, epoch: int, asked_at: float, work_seconds_max: float) -> Lease:
        """Keep a lease that a store acquired inside its own transaction."""
        lease = self.leases[name] = Lease(name, epoch, self.store.seconds, work_seconds_max, asked_at)
        return lease

    async def release(self, lease: Lease) -> None:
        """Give a lease back."""
        self.forget(lease)
        await self.store.release_lease(lease)

    def forget(self, lease: Lease) -> None:
        """Stop renewing a lease; a newer one of the same name is not meant."""
        lease.lost = True
        if self.leases.get(lease.name) is lease:
            del self.leases[lease.name]

    @asynccontextmanager
    async def holding(self, lease: Lease) -> AsyncIterator[Lease]:
        """Release the lease when the work is over, however it ends."""
        try:
            yield lease
        finally:
            await self.release(lease)

    async def round(self) -> float:
        """Renew what is worth renewing, in one statement."""
        asked_at = time.monotonic()
        wanted = [lease for lease in self.leases.values() if lease.worth_renewing(asked_at)]
        ours = await self.store.renew_leases(wanted) if wanted else {}
        for lease in list(self.leases.values()):
            if ours.get(lease.name):
                lease.held_until = asked_at + lease.seconds * (1 - MARGIN)
            elif (lease in wanted and lease.name not in ours) or not lease.held:
                lease.lost = True
                self.leases.pop(lease.name, None)
                metrics.leases_lost.labels(lease.name.partition("/")[0]).inc()
        return self.store.seconds / 4

    async def guarded_round(self) -> float:
        """A round that failed is tried again before the leases run out."""
        return min(await super().guarded_round(), self.store.seconds / 4)

    async def standing(self, name: str, current: Lease | None) -> Lease | None:
        """The lease of a standing role: the one that is held, or a new one, or None while another replica has it."""
        if current is not None and current.held:
            current.progress()
            return current
        if current is not None:
            self.forget(current)  # renewed further by the keeper, it would shut everybody out
        return await self.acquire(name)
