"""The janitor: what nobody needs any more, here and at the provider. Every act is safe to do twice."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import structlog

from penstock.core.batch import BatchState, ProviderBatch, is_terminal
from penstock.core.errors import ProviderError, ProviderMissing
from penstock.core.identity import batch_of_file
from penstock.postgres.janitor_store import MANIFEST, PAYLOAD, JanitorStore, Owner, Ring, SeenBatch, Spare
from penstock.provider.answer import ProviderFile
from penstock.provider.client import ProviderClient
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
        clients: Mapping[str, ProviderClient],
        keeper: LeaseKeeper,
        *,
        deployment: str,
        history_seconds: float,
    ) -> None:
        super().__init__(drain)
        self.settings = settings
        self.store = store
        self.clients = clients
        self.keeper = keeper
        self.deployment = deployment
        self.history_seconds = history_seconds
        self.lease: Lease | None = None
        self.scanned_at: dict[str, float] = {}
        self.kept_files: Counter[str] = Counter()
        self.files_after: dict[str, datetime | None] = {}

    async def round(self) -> float:
        """Everything that is due."""
        self.lease = lease = await self.keeper.standing("janitor", self.lease)
        if lease is None:
            return self.settings.interval_seconds
        self.kept_files.clear()
        errors = await self.each(
            lease,
            partial(self.store.sweep, lease, self.history_seconds),
            partial(self.turn, lease, PAYLOAD, self.settings.payload_turn_seconds),
            partial(self.turn, lease, MANIFEST, self.history_seconds / 10),
        )
        # All at once: an account that does not answer for minutes keeps no other's waiting.
        for found in await asyncio.gather(*(self.clean(lease, account) for account in self.clients)):
            errors += found
        if errors:
            raise errors[0]
        self.progressed()
        return self.settings.interval_seconds

    async def clean(self, lease: Lease, account: str) -> list[Exception]:
        """Everything that is due at one account; returns what failed."""
        errors = await self.each(lease, partial(self.remove_files, lease, account))
        scanned_at = self.scanned_at.get(account)
        if scanned_at is None or time.monotonic() - scanned_at > SCAN_EVERY_SECONDS:
            self.scanned_at[account] = time.monotonic()
            scan = partial(self.settle_spares, lease, account), partial(self.remove_orphans, lease, account)
            if failed := await self.each(lease, *scan):
                del self.scanned_at[account]  # one lost answer does not put it off
                errors += failed
        return errors

    async def each(self, lease: Lease, *steps: Callable[[], Awaitable[None]]) -> list[Exception]:
        """Take steps one after the other; what one of them meets is no reason to skip the others."""
        errors: list[Exception] = []
        for step in steps:
            try:
                lease.progress()
                await step()
            except Exception as error:  # noqa: BLE001 - it is told once all are done
                errors.append(error)
        return errors

    async def turn(self, lease: Lease, ring: Ring, seconds: float) -> None:
        """Turn a ring when it is time, and empty what nobody needs."""
        await self.store.turn(lease, ring, seconds, lease.progress)
        await self.store.truncate(lease, ring)

    async def remove_files(self, lease: Lease, account: str) -> None:
        """Delete the provider files of some published batches.

        Those that cannot be deleted are tried again when all others had their turn.
        """
        due = await self.store.files_due(account, self.settings.file_grace_seconds, self.files_after.get(account))
        for leftover in due:
            if all([await self.removed(lease, account, file_id) for file_id in leftover.file_ids]):
                await self.store.mark_files_removed(lease, leftover.batch_id)
        self.files_after[account] = due[-1].published_at if due else None

    async def removed(self, lease: Lease, account: str, file_id: str) -> bool:
        """Delete a file; whether it is gone. The first refusal of a round is logged."""
        lease.progress()
        try:
            await self.clients[account].delete_file(file_id)
        except ProviderError as error:
            if not self.kept_files[account]:
                log.warning("file.kept", account=account, file=file_id, error=str(error))
            self.kept_files[account] += 1
            return False
        return True

    async def settle_spares(self, lease: Lease, account: str) -> None:
        """Find batches that execute our requests a second time, cancel them while they run, count what they executed.

        One that failed at validation has executed nothing.
        """
        client = self.clients[account]
        listed = await client.back_to(await self.store.database_clock() - SCAN_BACK, lease.progress)
        if listed.gap is not None:
            log.warning("list.incomplete", account=account, error=str(listed.gap))
        seen = {each.id: each for each in listed.batches if each.status != "failed"}
        for spare in await self.store.note_spares(lease, account, list(map(self.seen_batch, seen.values()))):
            log.error(
                "batch.duplicated",
                batch=str(spare.batch_id),
                provider_batch=spare.provider_batch_id,
                requests=spare.requests,
                fix="nothing to do: it is cancelled while it runs, and what it executes is counted",
            )
        spares = await self.store.open_spares(account)
        for spare in spares:
            lease.progress()
            await self.settle_spare(lease, client, spare, seen.get(spare.provider_batch_id))
        settled = {each.provider_batch_id for each in spares}
        await self.cancel_superfluous(lease, client, [each for each in seen.values() if each.id not in settled])

    def seen_batch(self, batch: ProviderBatch) -> SeenBatch:
        """What tells whether a batch at the provider is a spare one; without metadata its input file does."""
        create_id = uuid_of(batch.metadata.get("penstock_create")) if self.is_mine(batch) else None
        return SeenBatch(batch.id, create_id, None if "penstock_create" in batch.metadata else batch.input_file_id)

    async def settle_spare(
        self, lease: Lease, client: ProviderClient, spare: Spare, listed: ProviderBatch | None
    ) -> None:
        """Cancel a spare batch while it runs; once it has ended, count what it executed."""
        try:
            seen = listed or await client.retrieve(spare.provider_batch_id)
            if not is_terminal(seen.status):
                await self.cancel(client, seen)
                return
            told = 0 if seen.status == "failed" else seen.executed  # refused at validation
            executed = spare.requests if told is None else min(told, spare.requests)
        except ProviderMissing:  # forgotten by the provider: at the worst it has executed all of them
            executed = spare.requests
        except ProviderError as error:
            log.warning("duplicate.kept", provider_batch=spare.provider_batch_id, error=str(error))
            return
        if await self.store.end_spare(lease, spare.provider_batch_id, executed):
            metrics.duplicates.labels("create").inc(executed)
            log.warning("duplicate.ended", provider_batch=spare.provider_batch_id, executed=executed)

    async def cancel_superfluous(self, lease: Lease, client: ProviderClient, seen: Iterable[ProviderBatch]) -> None:
        """Cancel what runs for a batch that has ended here, or goes on in another one."""
        running = [
            (batch_id, each)
            for each in seen
            if self.is_mine(each) and not is_terminal(each.status) and (batch_id := batch_of(each))
        ]
        owners = await self.store.owners([batch_id for batch_id, _ in running])
        for batch_id, each in running:
            owner = owners.get(batch_id)
            if owner is None or not superfluous(owner, each.id):
                continue
            lease.progress()
            try:
                await self.cancel(client, each)
            except ProviderMissing:
                continue
            except ProviderError as error:
                log.warning("duplicate.kept", provider_batch=each.id, error=str(error))

    async def cancel(self, client: ProviderClient, batch: ProviderBatch) -> None:
        """Ask for a batch to stop, once."""
        if batch.status != "cancelling":
            await client.cancel(batch.id)

    def is_mine(self, batch: ProviderBatch) -> bool:
        """Whether a batch at the provider is one of this deployment's."""
        return batch.metadata.get("penstock_deployment") == self.deployment

    async def remove_orphans(self, lease: Lease, account: str) -> None:
        """Delete input files of ours that nothing refers to (a crash between upload and note, a split)."""
        before = await self.store.database_clock() - timedelta(seconds=self.settings.orphan_grace_seconds)
        found: list[tuple[UUID, ProviderFile]] = []
        gap: ProviderError | None = None
        try:
            async for file in self.clients[account].files(lease.progress):
                batch_id = batch_of_file(self.deployment, file.name)
                if batch_id is not None and file.created_at is not None and file.created_at < before:
                    found.append((batch_id, file))
        except ProviderError as error:
            gap = error  # what was seen before is deleted all the same
        owners = await self.store.owners([batch_id for batch_id, _ in found])
        for file in orphans(found, owners):
            if await self.removed(lease, account, file.id):
                metrics.orphans_removed.labels("file").inc()
        if gap is not None:
            raise gap


def batch_of(batch: ProviderBatch) -> UUID | None:
    """The batch that a provider's batch was made for."""
    return uuid_of(batch.metadata.get("penstock_batch"))


def uuid_of(text: str | None) -> UUID | None:
    """An id of ours in a batch's metadata; None for what is none."""
    try:
        return UUID(hex=text or "")
    except ValueError:
        return None


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
