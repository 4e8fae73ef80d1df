"""The granter: sealed batches get their tokens, those that are late or cancelled their answer; by lease."""

import asyncio
from collections.abc import Container

from penstock.core.lane import LaneKey, Lanes
from penstock.postgres.submitter_store import SubmitterStore
from penstock.stages.census import Census
from penstock.stages.lease import Lease, LeaseKeeper
from penstock.stages.stage import Stage

ROUND_SECONDS = 0.5


class Granter(Stage):
    """Reserves tokens of every account and model, on one replica that has the newest limits.

    Args:
        drain: set when the service is to stop.
        store: reservations, and the batches that wait for them.
        keeper: of this process's leases.
        census: whether other replicas have newer limits.
        lanes: limits.
        accounts: those that are configured; nothing is reserved of others.
    """

    name = "granter"

    def __init__(
        self,
        drain: asyncio.Event,
        store: SubmitterStore,
        keeper: LeaseKeeper,
        census: Census,
        lanes: Lanes,
        accounts: Container[str],
    ) -> None:
        super().__init__(drain)
        self.store = store
        self.keeper = keeper
        self.census = census
        self.lanes = lanes
        self.accounts = accounts
        self.lease: Lease | None = None

    async def round(self) -> float:
        """Reserve tokens for those who wait; answer what waited too long or was cancelled, whatever its account."""
        if not self.census.newest or not await self.census.trusts():
            if self.lease is not None:
                await self.keeper.release(self.lease)
                self.lease = None
            return ROUND_SECONDS
        self.lease = await self.keeper.standing(self.name, self.lease)
        if self.lease is None:
            return ROUND_SECONDS
        for account, model in await self.store.models_waiting():
            self.lease.progress()
            if account in self.accounts:
                with self.apart(account=account, model=model):
                    await self.store.reserve(account, model, self.limit_of)
        for batch_id in await self.store.past_deadline():
            self.lease.progress()
            with self.apart(batch=str(batch_id)):
                await self.store.expire(batch_id)
        for batch_id in await self.store.withdrawn():
            self.lease.progress()
            with self.apart(batch=str(batch_id)):
                await self.store.withdraw(batch_id)
        return ROUND_SECONDS

    def limit_of(self, key: LaneKey, learned: int | None) -> int | None:
        """The enqueued-token limit in force for a model."""
        return self.lanes.policy(key).enqueued_tokens_max or learned
