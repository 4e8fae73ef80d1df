"""The janitor: what nobody needs any more, here and at the provider. Every act is safe to do twice."""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from penstock.core.batch import BatchState, ProviderBatch, is_terminal
from penstock.core.errors import ProviderMissing
from penstock.core.identity import batch_of_file
from penstock.postgres.janitor_store import MANIFEST, PAYLOAD, JanitorStore, Owner
from penstock.provider.client import ProviderClient, ProviderFile
from penstock.settings import JanitorSettings
from penstock.stages.lease import Lease, LeaseKeeper
from penstock.stages.stage import Stage
from penstock.telemetry import metrics

log = structlog.get_logger()

SCAN_EVERY_SECONDS = 600.0
SCAN_BACK = timedelta(hours=26)
"""A batch older than its completion window and two hours costs nothing more."""
FINISHED = (BatchState.PUBLISHED, BatchState.SPLIT)


class Janitor(Stage):
    """Touches only objects of its own deployment (B4)."""

    name = "janitor"

    def __init__(
        self,
        drain: asyncio.Event,
        settings: JanitorSettings,
        store: JanitorStore,
        client: ProviderClient,
        keeper: LeaseKeeper,
        *,
        deployment: str,
        history_seconds: float,
    ) -> None:
        super().__init__(drain)
        self.settings = settings
        self.store = store
        self.client = client
        self.keeper = keeper
        self.deployment = deployment
        self.history_seconds = history_seconds
        self.lease: Lease | None = None
        self.scanned_at: float | None = None

    async def round(self) -> float:
        """Everything that is due."""
        self.lease = lease = await self.keeper.standing("janitor", self.lease)
        if lease is None:
            return self.settings.interval_seconds
        await self.store.sweep(lease, self.history_seconds)
        for ring, seconds in ((PAYLOAD, self.settings.payload_turn_seconds), (MANIFEST, self.history_seconds / 10)):
            lease.progress()
            await self.store.turn(lease, ring, seconds)
            await self.store.truncate(lease, ring)
        for leftover in await self.store.files_due(self.settings.file_grace_seconds):
            for file_id in leftover.file_ids:
                lease.progress()
                await self.client.delete_file(file_id)
            await self.store.mark_files_removed(lease, leftover.batch_id)
        if self.scanned_at is None or time.monotonic() - self.scanned_at > SCAN_EVERY_SECONDS:
            self.scanned_at = time.monotonic()
            await self.cancel_duplicates(lease)
            await self.remove_orphans(lease)
        self.progressed()
        return self.settings.interval_seconds

    async def cancel_duplicates(self, lease: Lease) -> None:
        """Cancel batches of ours that another create of the same batch has made superfluous; each is counted."""
        seen = await self.client.back_to(datetime.now(UTC) - SCAN_BACK)
        mine = [(batch_id, each) for each in seen if (batch_id := self.batch_of(each)) and not is_terminal(each.status)]
        owners = await self.store.owners([batch_id for batch_id, _ in mine])
        for batch_id, each in mine:
            owner = owners.get(batch_id)
            if owner is None or not superfluous(owner, each.id):
                continue
            lease.progress()
            metrics.duplicates.labels("create").inc(owner.requests)
            log.error("batch.duplicated", batch=str(batch_id), provider_batch=each.id, requests=owner.requests)
            try:
                await self.client.cancel(each.id)
            except ProviderMissing:
                continue

    def batch_of(self, batch: ProviderBatch) -> UUID | None:
        """The batch that a provider's batch of this deployment was made for."""
        if batch.metadata.get("penstock_deployment") != self.deployment:
            return None
        try:
            return UUID(hex=batch.metadata.get("penstock_batch", ""))
        except ValueError:
            return None

    async def remove_orphans(self, lease: Lease) -> None:
        """Delete input files of ours that nothing refers to (a crash between upload and note, a split)."""
        before = datetime.now(UTC) - timedelta(seconds=self.settings.orphan_grace_seconds)
        found: list[tuple[UUID, ProviderFile]] = []
        async for file in await self.client.files():
            batch_id = batch_of_file(self.deployment, file.name)
            if batch_id is not None and file.created_at is not None and file.created_at < before:
                found.append((batch_id, file))
        owners = await self.store.owners([batch_id for batch_id, _ in found])
        for file in orphans(found, owners):
            lease.progress()
            await self.client.delete_file(file.id)
            metrics.orphans_removed.labels("file").inc()


def superfluous(owner: Owner, provider_batch_id: str) -> bool:
    """Whether the row, read after the listing, has ended or names another batch at the provider."""
    other = owner.provider_batch_id is not None and owner.provider_batch_id != provider_batch_id
    return other or (owner.state in FINISHED and owner.provider_batch_id != provider_batch_id)


def orphans(found: Iterable[tuple[UUID, ProviderFile]], owners: dict[UUID, Owner]) -> list[ProviderFile]:
    """The files that no batch needs: its row has ended, or names another file."""
    return [
        file
        for batch_id, file in found
        if (owner := owners.get(batch_id)) is not None
        and (owner.state is BatchState.SPLIT or (owner.file_id is not None and owner.file_id != file.id))
    ]
