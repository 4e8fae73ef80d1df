"""Leases: who may act, and who may write (B1)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from penstock.postgres.database import Connection, Database, Held
from penstock.stages.lease import Lease
from tests.defences.switches.registry import Patch, defence, reword


@defence("B1", 7)
def lease_expiry(patch: Patch) -> None:
    """A lease ends only when its holder gives it back."""
    reword(patch, "acquire_lease", ("expires_at < clock_timestamp()", "expires_at = '-infinity'"))
    reword(patch, "claimable_batch", ("l.expires_at < clock_timestamp()", "l.expires_at = '-infinity'"))


@defence("B1", 10)
def lease_required(patch: Patch) -> None:
    """Nobody looks whether a lease is still held before acting outside Postgres."""
    patch.setattr(Lease, "require", lambda _: None)


@defence("B1", 11)
def epoch_guard(patch: Patch) -> None:
    """Writes are not fenced by the lease's epoch."""
    transaction = Database.transaction

    @asynccontextmanager
    async def unguarded(self: Database, lease: Held | None = None) -> AsyncIterator[Connection]:  # noqa: ARG001 - the same signature
        async with transaction(self) as connection:
            yield connection

    patch.setattr(Database, "transaction", unguarded)


@defence("B1, P5, W4", 13, 20)
def own_clock_and_epoch(patch: Patch) -> None:
    """Neither the holder's own clock nor the lease's epoch stops a write (either alone suffices)."""
    lease_required(patch)
    epoch_guard(patch)


@defence("B1")
def renewal_bounds(patch: Patch) -> None:
    """A lease is renewed as long as its process lives."""
    patch.setattr(Lease, "worth_renewing", lambda self, _: not self.lost)
