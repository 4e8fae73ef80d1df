"""The collector's downloads: a finished batch's files on this disk, whole, or a reason why not now."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import structlog

from penstock.core.batch import locate
from penstock.core.decision import Kind, Reconciliation, read_line
from penstock.core.errors import ProviderDenied, ProviderError, ProviderMissing, ProviderUnavailable
from penstock.core.jsonl import LineSplitter
from penstock.core.refusal import account_fix
from penstock.core.retry import CALL
from penstock.postgres.batch_row import BatchRow
from penstock.provider.client import ProviderClient
from penstock.provider.clients import ProviderClients
from penstock.spool import Spool
from penstock.stages.acquaintance import GRACE_SECONDS, Acquaintance
from penstock.stages.lease import Lease, work_seconds
from penstock.telemetry import metrics
from penstock.telemetry.failpoint import failpoint

log = structlog.get_logger()

READ_BYTES = 4 * 1024 * 1024
AGREE_SECONDS = 120.0
"""Two downloads this far apart that agree are believed, whatever size the provider names (W2)."""
PROVEN_SECONDS = 2.0
"""The same, where the transport proves that each of them is whole."""
UNKNOWN_BYTES = 4 * 1024**3
"""The room for a file of which nobody says how long it is; 50,000 embeddings are 3.3 GB."""
STAGE = "publisher"
"""Whose calls wait when the provider refuses an account's downloads."""
FILES = 2
"""Output and error file."""


@dataclass(slots=True)
class Spooled:
    """A batch's files on this disk, and where each position's line lies."""

    paths: list[Path]
    file_ids: list[str]
    lines: Reconciliation
    lost: bool = False
    """A file that the provider named is gone for good: what it held is paid for again."""

    def judged(self) -> bytes:
        """A `Kind` per position; of files that are gone nobody knows what their lines named."""
        return bytes(self.lines.kinds) if self.lost else self.lines.judged()


@dataclass(slots=True)
class Suspicion:
    """Something odd about a file, first seen when."""

    since: float
    digest: bytes = b""


class Wanted(NamedTuple):
    """A file to be brought."""

    file_id: str
    told_bytes: int | None
    room_bytes: int
    """What is reserved for it, and what its time is measured by."""
    path: Path


class Body(NamedTuple):
    """A file as it came."""

    file_id: str
    told_bytes: int | None
    """By the word of the provider; None when it does not say."""
    size_bytes: int
    digest: bytes
    proven: bool
    """Whether the transport proves that it is all that was sent, and its last line is complete."""


@dataclass(slots=True)
class Downloader:
    """Brings files into the spool. Holds nothing that a crash may lose: suspicions only start anew."""

    clients: ProviderClients
    spool: Spool
    acquaintance: Acquaintance
    file_gone_seconds: float
    suspicions: dict[str, Suspicion] = field(default_factory=dict)
    wrong_sizes: set[str] = field(default_factory=set)
    """Accounts whose provider told the wrong size of a file."""
    denials: set[str] = field(default_factory=set)
    """Accounts that the provider refused."""
    unsized: set[str] = field(default_factory=set)
    """Accounts whose provider tells no size though the content is there."""

    async def denied(self, account: str, error: ProviderDenied) -> None:
        """The provider refuses the account's downloads: say so to operators and in the log."""
        self.denials.add(account)
        metrics.account_halted.labels(account, STAGE).set(True)
        fix = account_fix(error.operation, error.code)
        log.error("account.denied", account=account, error=str(error), fix=fix)
        await self.acquaintance.denied(account, STAGE, error, CALL.last_seconds)

    async def allowed(self, account: str) -> None:
        """The provider takes the account's downloads, again or still."""
        if account in self.denials:
            self.denials.discard(account)
            metrics.account_halted.labels(account, STAGE).set(False)
        await self.acquaintance.allowed(account, STAGE)

    @asynccontextmanager
    async def spooled(self, batch: BatchRow, lease: Lease) -> AsyncIterator[Spooled]:
        """The batch's output and error files, whole, on disk and read.

        Raises:
            ProviderError: a file cannot be had, or is not whole, or may still be named, now.
        """
        client = self.clients.of(batch.key.account)
        spooled = Spooled([], [], Reconciliation(locate(batch.parts), batch.size.requests))
        named = await self.file_ids(client, batch)
        sizes: dict[str, int | None] = {}
        rooms: dict[str, int] = {}
        for each in named:
            lease.progress()
            sizes[each] = await self.told_bytes(client, batch.key.account, each)
            rooms[each] = await self.room_bytes(client, batch, each, sizes[each])
        lease.progress()
        async with AsyncExitStack() as stack:
            # One taking for both files: with one after the other, two batches could wait for each other for ever.
            await stack.enter_async_context(self.spool.downloads.take(sum(rooms.values())))
            bodies = []
            for file_id, told in sizes.items():
                path = self.spool.path(f"{batch.id.hex}-{len(spooled.paths)}.jsonl")
                stack.callback(path.unlink, missing_ok=True)
                wanted = Wanted(file_id, told, rooms[file_id], path)
                body = await self.bring(client, batch, wanted, spooled, lease)
                if body is not None:
                    bodies.append(body)
            if not batch.files_given_up:
                self.believe(batch.key.account, spooled.lines, bodies)
                await self.await_files(batch, named, spooled)
            lines = spooled.lines
            for kind, count in (
                ("unknown", lines.unknown),
                ("repeated", lines.repeated),
                ("unreadable", lines.unreadable),
            ):
                metrics.lines_unmatched.labels(kind).inc(count)
            yield spooled

    async def bring(
        self, client: ProviderClient, batch: BatchRow, wanted: Wanted, spooled: Spooled, lease: Lease
    ) -> Body | None:
        """Bring a file into the spool and read it; None when it is gone for good, or given up.

        Raises:
            ProviderError: it cannot be had now, or has lines that may have been spoilt on the way.
        """
        try:
            body = await self.download(client, wanted, lease)
        except (ProviderError, TimeoutError) as error:
            missing = isinstance(error, ProviderMissing)
            gone = batch.files_given_up or (missing and await self.is_gone(batch.key.account, wanted.file_id))
            if not gone:
                raise
            log.error("file.gone", file=wanted.file_id, error=str(error))  # noqa: TRY400 - the words say it all
            spooled.lost = True
            return None
        self.suspicions.pop(f"missing/{wanted.file_id}", None)
        spooled.paths.append(wanted.path)
        spooled.file_ids.append(wanted.file_id)
        unreadable = spooled.lines.unreadable
        complete = await self.read(spooled, len(spooled.paths) - 1, lease)
        if spooled.lines.unreadable > unreadable and not batch.files_given_up:
            self.doubt(wanted.file_id, body.digest)
        return body._replace(proven=body.proven and complete)

    async def told_bytes(self, client: ProviderClient, account: str, file_id: str) -> int | None:
        """A file's size by the provider's word; None when it gives none: then the content has to tell."""
        try:
            told = await client.file_bytes(file_id)
        except ProviderError as error:
            if account not in self.unsized:
                self.unsized.add(account)
                log.warning("sizes.unknown", account=account, file=file_id, error=str(error))
            return None
        self.unsized.discard(account)
        return told

    async def room_bytes(self, client: ProviderClient, batch: BatchRow, file_id: str, told: int | None) -> int:
        """The room that a file needs in the spool, by its told size, its announced length, or the most there are."""
        if told is not None and batch.key.account not in self.wrong_sizes:
            return told
        try:
            announced = await client.content_bytes(file_id)
        except ProviderMissing:
            return 0  # the download sees for itself
        except ProviderError:
            if not batch.files_given_up:
                raise
            announced = None
        return min(UNKNOWN_BYTES, self.spool.downloads.bytes_max) if announced is None else announced

    def believe(self, account: str, lines: Reconciliation, bodies: Sequence[Body]) -> None:
        """Files of another size than told, or of none, are believed for a reason of their own (W2).

        Where every request has a readable line, nothing can be lacking. Else two downloads have to agree, seconds apart
        when the transport proves them whole, minutes when nothing does.

        Raises:
            ProviderUnavailable: one may have been cut on its way.
        """
        odd = [each for each in bodies if each.size_bytes != each.told_bytes]
        settled = not (lines.kinds.count(Kind.MISSING) or lines.kinds.count(Kind.UNREADABLE))
        doubted = [each for each in odd if not (each.proven and settled) and not self.agrees(each)]
        if doubted:
            told = "an unknown number" if doubted[0].told_bytes is None else doubted[0].told_bytes
            raise ProviderUnavailable("files.content", f"{doubted[0].size_bytes} bytes came of {told}")
        for each in odd:
            self.suspicions.pop(each.file_id, None)
            if each.told_bytes is not None:
                metrics.sizes_wrong.labels(account).inc()
                if account not in self.wrong_sizes:
                    self.wrong_sizes.add(account)
                    log.warning(
                        "sizes.wrong",
                        account=account,
                        file=each.file_id,
                        told_bytes=each.told_bytes,
                        bytes=each.size_bytes,
                    )

    def agrees(self, body: Body) -> bool:
        """Whether an earlier download, long enough ago, has the same bytes."""
        earlier = self.suspicions.get(body.file_id)
        if earlier is None or earlier.digest != body.digest:
            self.suspicions[body.file_id] = Suspicion(time.monotonic(), body.digest)
            return False
        return time.monotonic() - earlier.since >= (PROVEN_SECONDS if body.proven else AGREE_SECONDS)

    async def is_gone(self, account: str, missing: str) -> bool:
        """Whether something has been missing for so long that it will not come any more.

        That takes a day when the account's key knows none of our batches, for then it may be another project's.
        """
        suspicion = self.suspicions.setdefault(f"missing/{missing}", Suspicion(time.monotonic()))
        waited = time.monotonic() - suspicion.since - self.file_gone_seconds
        return waited >= 0 and (waited >= GRACE_SECONDS or await self.acquaintance.knows(account))

    async def file_ids(self, client: ProviderClient, batch: BatchRow) -> list[str]:
        """The batch's output and error file. One that had none when its end was seen may have it now.

        Raises:
            ProviderUnavailable: what it names was read, requests are missing, and it may still name more.
        """
        known = [each for each in (batch.output_file_id, batch.error_file_id) if each]
        if len(known) == FILES or batch.provider_batch_id is None:
            return known
        try:
            fresh = await client.retrieve(batch.provider_batch_id)
        except ProviderError as error:
            forgotten = isinstance(error, ProviderMissing)  # it has ended all the same
            gone = forgotten and await self.is_gone(batch.key.account, batch.provider_batch_id)
            if not (batch.files_given_up or gone):
                raise
            return known
        now = fresh.output_file_id or batch.output_file_id, fresh.error_file_id or batch.error_file_id
        known = [each for each in now if each]
        waiting = self.suspicions.get(f"missing/{batch.provider_batch_id}")
        if waiting is not None and waiting.digest == digest_of(known) and not batch.files_given_up:
            await self.await_more(batch, known)
        return known

    async def await_files(self, batch: BatchRow, named: Sequence[str], spooled: Spooled) -> None:
        """A batch that names only one file or none, while requests are missing, is given time to name the other.

        Raises:
            ProviderUnavailable: it may still do so.
        """
        missing = spooled.judged().count(Kind.MISSING)
        if missing and len(named) < FILES and batch.provider_batch_id is not None and not spooled.lost:
            await self.await_more(batch, named)

    async def await_more(self, batch: BatchRow, named: Sequence[str]) -> None:
        """Wait for a file that an ended batch does not name yet, as long as for one that is named and missing.

        Raises:
            ProviderUnavailable: the time is not over.
        """
        missing = f"missing/{batch.provider_batch_id}"
        if not await self.is_gone(batch.key.account, str(batch.provider_batch_id)):
            self.suspicions[missing].digest = digest_of(named)  # until it names more, nothing is downloaded again
            detail = f"it has ended and names {len(named)} files, and lines of its requests are missing"
            raise ProviderUnavailable("batches.retrieve", detail)
        if missing in self.suspicions:
            self.suspicions[missing].digest = b""

    def doubt(self, file_id: str, digest: bytes) -> None:
        """A file with lines that cannot be read is believed when another download has the same bytes (W2).

        Raises:
            ProviderUnavailable: it may have been spoilt on its way.
        """
        earlier = self.suspicions.setdefault(f"unreadable/{file_id}", Suspicion(time.monotonic()))
        if earlier.digest == digest or time.monotonic() - earlier.since > AGREE_SECONDS:
            return
        earlier.digest = digest
        raise ProviderUnavailable("files.content", "it has lines that cannot be read")

    @failpoint("spool.download")
    async def download(self, client: ProviderClient, wanted: Wanted, lease: Lease) -> Body:
        """Stream a file to disk.

        Raises:
            TimeoutError: it trickles: the slot's lease must not be held for ever (B1).
        """
        digest = hashlib.sha256()
        read_bytes = 0

        async def take(block: bytes) -> None:
            nonlocal read_bytes
            await asyncio.to_thread(file.write, block)
            digest.update(block)
            read_bytes += len(block)
            lease.progress()

        with await asyncio.to_thread(wanted.path.open, "wb") as file:
            async with asyncio.timeout(work_seconds(wanted.room_bytes)):
                proven = await client.download(wanted.file_id, take)
        return Body(wanted.file_id, wanted.told_bytes, read_bytes, digest.digest(), proven)

    @failpoint("spool.read")
    async def read(self, spooled: Spooled, number: int, lease: Lease) -> bool:
        """Set a file's lines against the batch's positions, a few megabytes at a time, off the loop.

        Returns:
            Whether its last line is complete.
        """
        splitter = LineSplitter()
        start = 0

        def read_block(block: bytes, start: int) -> int:
            return spooled.lines.read(number, start, splitter.feed(block))

        with await asyncio.to_thread(spooled.paths[number].open, "rb") as file:
            while block := await asyncio.to_thread(file.read, READ_BYTES):
                start = await asyncio.to_thread(read_block, block, start)
                lease.progress()
        rest = list(splitter.close())
        spooled.lines.read(number, start, rest)
        return all(read_line(each) is not None for each in rest)


def digest_of(names: Sequence[str]) -> bytes:
    """Names of files, to be compared."""
    return hashlib.sha256("\n".join(names).encode()).digest()
