"""The collector's downloads: a finished batch's files on this disk, whole, or a reason why not now."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from penstock.core.batch import locate
from penstock.core.decision import Reconciliation
from penstock.core.errors import ProviderMissing, ProviderUnavailable
from penstock.core.jsonl import LineSplitter
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


@dataclass(slots=True)
class Downloader:
    """Brings files into the spool. Holds nothing that a crash may lose: suspicions only start anew."""

    clients: ProviderClients
    spool: Spool
    acquaintance: Acquaintance
    file_gone_seconds: float
    suspicions: dict[str, Suspicion] = field(default_factory=dict)

    @asynccontextmanager
    async def spooled(self, batch: BatchRow, lease: Lease) -> AsyncIterator[Spooled]:
        """The batch's output and error files, whole, on disk and read.

        Raises:
            ProviderError: a file cannot be had, or is not whole, now.
        """
        client = self.clients.of(batch.key.account)
        spooled = Spooled([], [], Reconciliation(locate(batch.parts), batch.size.requests))
        account = batch.key.account
        sizes = {}
        for each in await self.file_ids(client, batch):
            lease.progress()
            sizes[each] = await self.file_bytes(client, account, each)
        lease.progress()
        spooled.lost = None in sizes.values()
        async with AsyncExitStack() as stack:
            # One taking for both files: with one after the other, two batches could wait for each other for ever.
            await stack.enter_async_context(self.spool.downloads.take(sum(filter(None, sizes.values()))))
            for file_id, size_bytes in sizes.items():
                if size_bytes is None:
                    continue
                path = self.spool.path(f"{batch.id.hex}-{len(spooled.paths)}.jsonl")
                stack.callback(path.unlink, missing_ok=True)
                spooled.paths.append(path)
                spooled.file_ids.append(file_id)
                digest = await self.download(client, file_id, path, size_bytes, lease)
                unreadable = spooled.lines.unreadable
                await self.read(spooled, len(spooled.paths) - 1, lease)
                if spooled.lines.unreadable > unreadable:
                    self.doubt(file_id, digest)
            lines = spooled.lines
            for kind, count in (
                ("unknown", lines.unknown),
                ("repeated", lines.repeated),
                ("unreadable", lines.unreadable),
            ):
                metrics.lines_unmatched.labels(kind).inc(count)
            yield spooled

    async def file_bytes(self, client: ProviderClient, account: str, file_id: str) -> int | None:
        """A file's size by the provider's word; None when it is gone for good."""
        try:
            size_bytes = await client.file_bytes(file_id)
        except ProviderMissing:
            if not await self.is_gone(account, file_id):
                raise
            log.error("file.gone", file=file_id)  # noqa: TRY400 - the provider's words say it all
            return None
        self.suspicions.pop(f"missing/{file_id}", None)
        return size_bytes

    async def is_gone(self, account: str, missing: str) -> bool:
        """Whether something has been missing for so long that it will not come any more.

        That takes a day when the account's key knows none of our batches, for then it may be another project's.
        """
        suspicion = self.suspicions.setdefault(f"missing/{missing}", Suspicion(time.monotonic()))
        waited = time.monotonic() - suspicion.since - self.file_gone_seconds
        return waited >= 0 and (waited >= GRACE_SECONDS or await self.acquaintance.knows(account))

    async def file_ids(self, client: ProviderClient, batch: BatchRow) -> list[str]:
        """The batch's output and error file.

        One that had none when its end was seen may have it now. A completed batch without any file is odd: it is
        asked again for a while before all its lines are taken as missing.

        Raises:
            ProviderUnavailable: it may still get them.
        """
        known = [each for each in (batch.output_file_id, batch.error_file_id) if each]
        if len(known) == 2 or batch.provider_batch_id is None:  # noqa: PLR2004 - output and error file
            return known
        try:
            fresh = await client.retrieve(batch.provider_batch_id)
        except ProviderMissing:  # it has ended, and is forgotten
            if not await self.is_gone(batch.key.account, batch.provider_batch_id):
                raise
            return known
        known = [each for each in (fresh.output_file_id, fresh.error_file_id) if each]
        odd = not known and batch.provider_status == "completed"
        if odd and not await self.is_gone(batch.key.account, batch.provider_batch_id):
            raise ProviderUnavailable("batches.retrieve", "the batch is completed and names no file yet")
        return known

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
    async def download(self, client: ProviderClient, file_id: str, path: Path, size_bytes: int, lease: Lease) -> bytes:
        """Stream a file to disk, and believe it only when it is whole (W2); returns its SHA-256.

        Raises:
            ProviderUnavailable: it is shorter or longer than the provider says.
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

        with await asyncio.to_thread(path.open, "wb") as file:
            async with asyncio.timeout(work_seconds(size_bytes)):
                await client.download(file_id, take)
        if read_bytes == size_bytes:
            return digest.digest()
        earlier = self.suspicions.get(file_id)
        if earlier is not None and earlier.digest == digest.digest():
            if time.monotonic() - earlier.since >= AGREE_SECONDS:
                return digest.digest()
        else:
            self.suspicions[file_id] = Suspicion(time.monotonic(), digest.digest())
        raise ProviderUnavailable("files.content", f"{read_bytes} bytes came of {size_bytes}")

    @failpoint("spool.read")
    async def read(self, spooled: Spooled, number: int, lease: Lease) -> None:
        """Set a file's lines against the batch's positions, a few megabytes at a time, off the loop."""
        splitter = LineSplitter()
        start = 0

        def read_block(block: bytes, start: int) -> int:
            return spooled.lines.read(number, start, splitter.feed(block))

        with await asyncio.to_thread(spooled.paths[number].open, "rb") as file:
            while block := await asyncio.to_thread(file.read, READ_BYTES):
                start = await asyncio.to_thread(read_block, block, start)
                lease.progress()
        spooled.lines.read(number, start, list(splitter.close()))
