"""Leases as rows: the one mechanism by which replicas share work."""

import uuid
from collections.abc import Sequence

from penstock.postgres.database import Database, Held
from penstock.telemetry.failpoint import failpoint


class LeaseStore:
    """Leases, set and judged by the database's clock.

    Args:
        database: where the rows live.
        holder: this process.
        seconds: how long a lease lasts without renewal.
    """

    def __init__(self, database: Database, holder: uuid.UUID, seconds: float) -> None:
        self.database = database
        self.holder = holder
        self.seconds = seconds

    @failpoint("lease.acquire")
    async def acquire_lease(self, name: str) -> int | None:
        """Take a lease that nobody holds; its new epoch, or None."""
        async with self.database.transaction() as connection:
            epoch: int | None = await connection.value("acquire_lease", name, self.holder, self.seconds)
            return epoch

    @failpoint("lease.renew")
    async def renew_leases(self, leases: Sequence[Held]) -> dict[str, bool]:
        """Extend leases; by the name of each that is still ours, whether it was extended.

        One that a guarded transaction of ours has locked is left for the next time: nobody else can take it
        meanwhile, and waiting for it would let all the others run out.
        """
        names, epochs = [each.name for each in leases], [each.epoch for each in leases]
        rows = await self.database.fetch("renew_leases", names, epochs, self.seconds)
        return {row["name"]: row["renewed"] for row in rows}

    @failpoint("lease.release")
    async def release_lease(self, lease: Held) -> None:
        """Give a lease back, so that another replica need not wait for its end."""
        async with self.database.transaction() as connection:
            await connection.execute("release_lease", lease.name, lease.epoch)
