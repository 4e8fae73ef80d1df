"""The submitter: sealed batches become files and batches at the provider; a create in doubt is looked up first."""

import asyncio
import contextlib
import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import structlog

from penstock.core.batch import BatchError, BatchState, remedy_of_call
from penstock.core.chunk import decode_lines
from penstock.core.create import made_by
from penstock.core.errors import (
    ProviderDenied,
    ProviderError,
    ProviderInDoubt,
    ProviderRefused,
    ProviderUnavailable,
    Superseded,
)
from penstock.core.identity import file_name
from penstock.core.lane import LaneKey
from penstock.core.refusal import SENDS, Concern, account_fix
from penstock.core.retry import CALL, SUBMISSION
from penstock.core.window import Part
from penstock.postgres.account_store import AccountStore
from penstock.postgres.batch_row import BatchRow, ChunkReader
from penstock.postgres.database import database_away
from penstock.postgres.submitter_store import Again, Claim, SubmitterStore
from penstock.provider.client import ProviderClient
from penstock.settings import ProviderSettings, SubmitterSettings
from penstock.spool import Spool
from penstock.stages.acquaintance import Acquaintance
from penstock.stages.census import Census
from penstock.stages.lease import Lease, LeaseKeeper, work_seconds
from penstock.stages.refusals import FIRST_TRY_SECONDS, SUBMITTER, Refusals
from penstock.stages.stage import Stage, describe, trace
from penstock.telemetry import metrics
from penstock.telemetry.failpoint import failpoint

log = structlog.get_logger()

IDLE_SECONDS = 0.5
LOOK_BACK = timedelta(minutes=10)
"""How much further back than the intent a look-up reads: clocks differ (B3)."""
BUDGET_SECONDS = 30.0
"""A batch for which the hour has no create left waits this long."""
OUTAGES = (ProviderUnavailable, ProviderDenied, ProviderInDoubt)
"""What no batch is to blame for."""
FILE_SEARCHES_MAX = 3
"""Claims of a batch in which its file is searched for at the provider in vain, before it is uploaded once more."""


class Submitter(Stage):
    """Claims an account's batches by lease, and submits several at a time.

    Each account has one of its own: what one of them meets holds up no other.
    """

    name = SUBMITTER

    def __init__(
        self,
        drain: asyncio.Event,
        settings: SubmitterSettings,
        provider_settings: ProviderSettings,
        store: SubmitterStore,
        reader: ChunkReader,
        client: ProviderClient,
        acquaintance: Acquaintance,
        keeper: LeaseKeeper,
        census: Census,
        spool: Spool,
        *,
        deployment: str,
        lane_label: Callable[[LaneKey], str],
        accounts: AccountStore,
        refusals: Refusals,
    ) -> None:
        super().__init__(drain)
        self.accounts = accounts
        self.refusals = refusals
        self.settings = settings
        self.provider = provider_settings
        self.account = provider_settings.account
        self.store = store
        self.reader = reader
        self.client = client
        self.acquaintance = acquaintance
        self.keeper = keeper
        self.census = census
        self.spool = spool
        self.deployment = deployment
        self.lane_label = lane_label
        self.outages = 0
        self.rests_until = 0.0
        self.halted = False
        self.work: set[asyncio.Task[None]] = set()

    async def round(self) -> float:
        """Claim and submit; returns at once while there is more to claim."""
        if self.halted and not await self.accounts.halted(self.account, self.name):
            self.show_halted(halted=False)  # another replica's call was taken
        trusted = await self.census.trusts()
        claimed = False
        while trusted and len(self.work) < self.settings.concurrency and not self.drain.is_set():
            asked_at = time.monotonic()
            if asked_at < self.rests_until:
                break
            claim = await self.store.claim(self.account, self.settings.look_up_seconds)
            if claim is None:
                break
            claimed = True
            seconds = work_seconds(claim.batch.size.bytes)
            lease = self.keeper.adopt(f"batch/{claim.batch.id}", claim.epoch, asked_at, seconds)
            if claim.halted:
                self.show_halted(halted=True)  # by whichever replica or stage
            self.work.add(asyncio.create_task(self.submit(claim, lease)))
        if self.work:
            done, self.work = await asyncio.wait(self.work, timeout=IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            errors = [error for task in done if (error := task.exception())]
            if errors:
                raise errors[0]
            return 0.0
        return 0.0 if claimed else IDLE_SECONDS

    async def submit(self, claim: Claim, lease: Lease) -> None:
        """Take one batch as far as it goes now. What goes wrong is written down or found again by the next holder."""
        batch = claim.batch
        async with self.keeper.holding(lease):
            try:
                if batch.state is BatchState.CREATING:
                    await self.resolve(claim, lease)
                    return
                await self.require_known_key()
                file_id = batch.file_id or await self.upload(batch, lease)
                if await self.create(batch, lease, file_id) and claim.halted:
                    await self.end_halt()
            except ProviderDenied as error:
                await self.halt(error)
                await self.store.postpone(lease, batch.id, 0.0)
            except ProviderError as error:
                if isinstance(error, ProviderRefused) and error.operation in SENDS:
                    await self.refused(batch, lease, error)
                    if claim.halted:
                        await self.end_halt()
                    return
                delay = self.patience(error, batch.refusals + 1)
                self.rest(error)
                log.warning("batch.postponed", batch=str(batch.id), error=str(error), seconds=round(delay))
                await self.store.postpone(lease, batch.id, delay)
            except Superseded as error:
                log.info("batch.superseded", batch=str(batch.id), reason=str(error))
            except Exception as error:
                spool = isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError)
                if database_away(error) and not spool:
                    raise
                await self.set_aside(batch, lease, error)

    async def require_known_key(self) -> None:
        """Send nothing with a key that knows none of our batches: it is another project's.

        Raises:
            ProviderDenied: so it is.
        """
        if not await self.acquaintance.knows(self.account):
            detail = "the key knows none of our batches: is it another project's?"
            raise ProviderDenied("batches.retrieve", detail, code="key_mismatch")

    async def set_aside(self, batch: BatchRow, lease: Lease, error: Exception) -> None:
        """A batch that meets what nobody foresaw waits, so that it does not keep the others from being claimed."""
        delay = SUBMISSION.delay_seconds(3, random.random())  # noqa: S311 - jitter
        metrics.stage_failures.labels(self.name).inc()
        log.error("batch.failed", batch=str(batch.id), error=describe(error), seconds=round(delay), trace=trace(error))
        try:
            await self.store.postpone(lease, batch.id, delay)
        except Superseded:  # its create is announced: it is looked up, but not at once again
            with contextlib.suppress(Superseded):
                await self.store.looked_up(lease, batch.id)

    async def upload(self, batch: BatchRow, lease: Lease) -> str:
        """Build the batch's file and upload it; returns its id, stored.

        A file that an earlier holder uploaded is adopted, if its name and bytes are ours (B2); not after a refusal,
        which may be the file's fault.
        """
        adopt = lease.epoch > 1 and not (batch.refusals or batch.own_creates)
        path = self.spool.path(f"{batch.id.hex}.jsonl")
        async with self.spool.uploads.take(batch.size.bytes):
            try:
                digest, size_bytes = await self.build(batch, lease, path)
                name = file_name(self.deployment, batch.id, digest)
                file_id = await self.find_file(name, size_bytes, lease) if adopt else None
                if file_id is None:
                    lease.require()
                    left = max(1.0, lease.ends_at - time.monotonic())
                    file_id = await self.client.upload(path, name, size_bytes, lease.touch, seconds=left)
                self.outages = 0
                lease.progress()
            finally:
                await asyncio.to_thread(path.unlink, missing_ok=True)
        await self.store.store_file(lease, batch.id, file_id)
        return file_id

    @failpoint("spool.build")
    async def build(self, batch: BatchRow, lease: Lease, path: Path) -> tuple[bytes, int]:
        """Write the batch's lines in order, a chunk at a time; returns their SHA-256 and size in bytes."""
        digest = hashlib.sha256()
        size_bytes = 0
        await asyncio.to_thread(path.write_bytes, b"")
        for part in batch.parts:
            payload = await self.reader.payload(part.chunk_id)
            manifest = await self.reader.manifest(part.chunk_id)

            size_bytes += await asyncio.to_thread(append_part, path, digest, payload, manifest.lengths, part)
            lease.progress()
        return digest.digest(), size_bytes

    async def find_file(self, name: str, size_bytes: int, lease: Lease) -> str | None:
        """The file that an earlier try uploaded, whole, under this name; None: upload it.

        A search that keeps failing ends with another upload: an orphaned file costs less than a batch that never goes.

        Raises:
            ProviderError: the list cannot be read now.
        """
        try:
            async for file in self.client.files(lease.progress):
                if file.name == name and file.bytes == size_bytes:
                    return file.id
        except ProviderError as error:
            if lease.epoch <= FILE_SEARCHES_MAX:
                raise ProviderUnavailable(error.operation, error.detail, code=error.code) from error
            log.warning(
                "file.not_searched", file=name, error=str(error), fix="nothing to do: the file is uploaded once more"
            )
        return None

    async def create(self, batch: BatchRow, lease: Lease, file_id: str) -> bool:
        """Announce the create, send it once, store its answer; returns whether the provider has the batch.

        Raises:
            ProviderRefused, ProviderDenied: it made none; the batch is sealed again.
        """
        await self.require_known_key()  # it may have changed during the upload
        intent_id = await self.store.intend(lease, batch, self.provider.creates_per_hour)
        if intent_id is None:
            await self.store.postpone(lease, batch.id, BUDGET_SECONDS)
            return False
        try:
            lease.require()
            answer = await self.client.create(
                file_id=file_id,
                endpoint=batch.key.endpoint,
                completion_window=batch.key.completion_window,
                metadata={
                    "penstock_deployment": self.deployment,
                    "penstock_batch": batch.id.hex,
                    "penstock_create": intent_id.hex,
                },
            )
        except ProviderInDoubt as error:
            metrics.creates_in_doubt.inc()
            self.rest(error)
            log.warning("create.lost", batch=str(batch.id), create=str(intent_id), error=str(error))
            return False
        except ProviderUnavailable as error:
            self.rest(error)
            log.warning("create.refused", batch=str(batch.id), error=str(error))
            again = Again(self.patience(error, batch.refusals + 1))
            await self.store.refused(lease, batch.id, [intent_id], "refused", again)
            return False
        except (ProviderRefused, ProviderDenied) as error:
            # The provider's words on a line may quote a request.
            said = error.code if isinstance(error, ProviderRefused) and error.line else str(error)
            log.warning("create.refused", batch=str(batch.id), error=said)
            counted = isinstance(error, ProviderRefused) and error.concern is Concern.REQUEST
            await self.store.refused(lease, batch.id, [intent_id], "refused", Again(0.0), counted=counted or None)
            raise
        await self.store.landed(lease, batch.id, intent_id, answer, adopted=False)
        self.submitted(batch, answer.id)
        return True

    async def refused(self, batch: BatchRow, lease: Lease, error: ProviderRefused) -> None:
        """The provider refuses the upload or the create for good: what it concerns says what is done."""
        said = BatchError(error.code, error.detail, error.line)
        action = remedy_of_call(
            error.concern,
            said,
            requests=batch.size.requests,
            lines_lost=batch.lines_lost,
            creates=batch.creates,
        )
        unseen = error.concern is Concern.FILE
        attempt = batch.refusals + 1 if unseen else lease.epoch
        again = Again(self.patience(error, attempt), refusals=int(unseen), new_file=unseen and batch.refusals >= 1)
        verdict = await self.refusals.act(lease, replace(batch, state=BatchState.SEALED), said, action, again)
        if verdict is not None:
            await self.store.answer(lease, batch.id, verdict)

    async def resolve(self, claim: Claim, lease: Lease) -> None:
        """Look a create in doubt up, now or, when the provider does not answer, later.

        An operator's cancel ends the doubt when the look-up fails, once the create cannot land any more.
        """
        try:
            await self.look_up(claim, lease)
        except ProviderError as error:
            self.rest(error)
            log.warning("create.unresolved", batch=str(claim.batch.id), error=str(error))
            if claim.batch.cancel and self.decides(claim):
                ids = [doubt.id for doubt in claim.doubts]
                await self.store.refused(lease, claim.batch.id, ids, "absent", Again(0.0))
            else:
                await self.store.looked_up(lease, claim.batch.id)

    def decides(self, claim: Claim) -> bool:
        """Whether the creates in doubt are so old that what is not listed now was never made (B3)."""
        settled_seconds = self.provider.timeout_seconds + self.settings.settle_seconds
        return all(doubt.age_seconds > settled_seconds for doubt in claim.doubts)

    async def look_up(self, claim: Claim, lease: Lease) -> None:
        """Find out whether a lost create made a batch, before anything is created again (B2, B3)."""
        batch, doubts = claim.batch, claim.doubts
        listed = await self.client.back_to(min(doubt.intended_at for doubt in doubts) - LOOK_BACK, lease.progress)
        known = await self.store.made_by_creates(batch.id)
        ids = [doubt.id for doubt in doubts]
        made = made_by(listed.batches, ids, deployment=self.deployment, file_id=batch.file_id, known=known)
        if made is not None:
            create, found = made
            await self.store.landed(lease, batch.id, create, found, adopted=True)
            log.info("create.adopted", batch=str(batch.id), create=str(create), provider_batch=found.id)
            self.submitted(batch, found.id)
        elif listed.gap is not None:
            raise listed.gap  # what it does not show may exist all the same
        elif self.decides(claim):
            await self.require_known_key()  # to another project's key everything is absent
            log.info("create.absent", batch=str(batch.id))
            await self.store.refused(lease, batch.id, ids, "absent", Again(0.0))
        else:
            await self.store.looked_up(lease, batch.id)

    def submitted(self, batch: BatchRow, provider_batch_id: str) -> None:
        """Say that the provider has the batch."""
        self.outages = 0
        metrics.batches_submitted.labels(self.lane_label(batch.key)).inc()
        metrics.phase_seconds.labels("sealed").observe(max(0.0, time.time() - batch.sealed_at.timestamp()))
        log.debug("batch.submitted", batch=str(batch.id), provider_batch=provider_batch_id)
        self.progressed()

    def rest(self, error: ProviderError) -> None:
        """Claim nothing for a while when the provider is away, refuses the key or is overloaded: no batch is to blame.

        The rest grows until something succeeds; what many batches met at once counts once.
        """
        now = time.monotonic()
        if now < self.rests_until or not isinstance(error, OUTAGES):
            return
        self.outages += 1
        asked = min(error.retry_after_seconds or 0.0, SUBMISSION.last_seconds)
        self.rests_until = now + max(CALL.delay_seconds(self.outages, random.random()), asked)  # noqa: S311 - jitter

    def patience(self, error: ProviderError, attempt: int) -> float:
        """Seconds to wait before the batch is tried again: what the provider asks for, or a growing delay."""
        delay = SUBMISSION.delay_seconds(attempt, random.random())  # noqa: S311 - jitter
        return max(delay, min(error.retry_after_seconds or 0.0, SUBMISSION.last_seconds))

    async def halt(self, error: ProviderDenied) -> None:
        """The provider refuses the account: an operator must act; one call is tried at growing intervals."""
        log.error(
            "account.denied", account=self.account, error=str(error), fix=account_fix(error.operation, error.code)
        )
        self.show_halted(halted=True)
        await self.accounts.halt(self.account, self.name, error, FIRST_TRY_SECONDS)

    async def end_halt(self) -> None:
        """The provider takes the account's calls again."""
        await self.accounts.end_halt(self.account, self.name)
        self.show_halted(halted=False)
        log.info("account.allowed", account=self.account)

    def show_halted(self, *, halted: bool) -> None:
        """Show whether the account is halted, as far as this replica knows."""
        self.halted = halted
        metrics.account_halted.labels(self.account, self.name).set(halted)

    async def close(self) -> None:
        """Let what is under way come to its end; a create is never left half-written for want of a second."""
        if self.work:
            await asyncio.wait(self.work)


def append_part(path: Path, digest: "hashlib._Hash", payload: bytes, lengths: list[int], part: Part) -> int:
    """Append a part's lines to the file; returns their bytes. Runs in a thread."""
    start = sum(lengths[: part.first])
    end = start + sum(lengths[part.first : part.first + part.requests])
    block = decode_lines(payload)[start:end]
    digest.update(block)
    with path.open("ab") as file:
        return file.write(block)
