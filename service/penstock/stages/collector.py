"""The collector: a finished batch's files are downloaded and checked, and each position gets its outcome.

It works under the slot's lease, hand in hand with the publisher, who sends what lies in the spool.
"""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from penstock.core.answered import NOTHING_ANSWERED, Answered
from penstock.core.batch import (
    CANCELLED,
    KNOWN_CODES,
    BatchError,
    Cancel,
    Remedy,
    Verdict,
    locate,
    positions,
    remedy,
)
from penstock.core.chunk import NewChunk, read_lines
from penstock.core.decision import (
    FORMAT,
    Decision,
    Kind,
    Outcome,
    Reconciliation,
    decide,
    unsupported,
)
from penstock.core.errors import ProviderMissing, ProviderUnavailable
from penstock.core.identity import new_id
from penstock.core.jsonl import LineSplitter
from penstock.core.lane import LaneKey, Lanes
from penstock.core.quota import learned_limit
from penstock.core.requeue import Requeue
from penstock.core.retry import SUBMISSION, Backoff
from penstock.postgres.batch_row import BatchRow, ChunkReader, read_payload
from penstock.postgres.collector_store import CollectorStore
from penstock.postgres.database import Connection
from penstock.postgres.submitter_store import Again
from penstock.postgres.window_store import read_manifest
from penstock.provider.client import ProviderClient
from penstock.provider.clients import ProviderClients
from penstock.spool import Spool
from penstock.stages.lease import Lease, work_seconds
from penstock.telemetry import metrics

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


@dataclass(slots=True)
class Suspicion:
    """Something odd about a file, first seen when."""

    since: float
    digest: bytes = b""


@dataclass(slots=True)
class Collector:
    """Decides batches. Holds nothing that a crash may lose: suspicions only start anew."""

    store: CollectorStore
    reader: ChunkReader
    clients: ProviderClients
    spool: Spool
    lanes: Lanes
    lane_label: Callable[[LaneKey], str]
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
        sizes = {file_id: await self.file_bytes(client, file_id) for file_id in await self.file_ids(client, batch)}
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

    async def file_bytes(self, client: ProviderClient, file_id: str) -> int | None:
        """A file's size by the provider's word; None when it is gone for good."""
        try:
            size_bytes = await client.file_bytes(file_id)
        except ProviderMissing:
            if not self.proven(file_id):
                raise
            log.error("file.gone", file=file_id)  # noqa: TRY400 - the provider's words say it all
            return None
        self.suspicions.pop(f"missing/{file_id}", None)
        return size_bytes

    def proven(self, missing: str) -> bool:
        """Whether something has been missing for so long that it will not come any more."""
        suspicion = self.suspicions.setdefault(f"missing/{missing}", Suspicion(time.monotonic()))
        return time.monotonic() - suspicion.since >= self.file_gone_seconds

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
            if not self.proven(batch.provider_batch_id):
                raise
            return known
        known = [each for each in (fresh.output_file_id, fresh.error_file_id) if each]
        if not known and batch.provider_status == "completed" and not self.proven(batch.provider_batch_id):
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

    async def decide(
        self, lease: Lease, batch: BatchRow, spooled: Spooled | None, answered: Answered = NOTHING_ANSWERED
    ) -> bool:
        """Decide an ended batch, or send it or its pieces again; returns whether it is decided."""
        policy = self.lanes.policy(batch.key)
        if batch.key.dead:
            decision = Decision(FORMAT, bytes([Outcome.DEAD_LETTER]) * batch.size.requests)
        elif batch.verdict:
            decision = verdict_for_all(batch, batch.verdict)
        elif spooled is None and not batch.abandoned:
            answer = CANCELLED if batch.cancel is Cancel.ANSWER else await self.refused(lease, batch)
            if answer is None:
                return False
            decision = verdict_for_all(batch, answer)
        else:
            kinds = spooled.lines.kinds if spooled else bytes(batch.size.requests)
            attempts, expired = await self.histories(batch)
            cancelled = CANCELLED if batch.cancel is Cancel.ANSWER else None
            done = await self.positions_in(batch, answered)
            decision = decide(kinds, attempts, policy.attempts_max, expired, cancelled, done)
            if spooled:
                await self.learn(batch, spooled)
            if spooled and spooled.lost:
                metrics.duplicates.labels("file_lost").inc(spooled.lines.missing)
        await self.store.decide(lease, batch, new_id(), decision, partial(self.another_try, batch, decision, lease))
        self.count(batch, decision)
        return True

    async def histories(self, batch: BatchRow) -> tuple[bytearray, list[bool]]:
        """Per position: failures so far, and whether its deadline has passed."""
        now = await self.store.database_clock()
        attempts = bytearray()
        expired: list[bool] = []
        for part, attempt in zip(batch.parts, batch.attempts, strict=True):
            manifest = await self.reader.manifest(part.chunk_id)
            attempts += bytes([attempt]) * part.requests
            expired += [each <= now for each in manifest.deadlines[part.first : part.first + part.requests]]
        return attempts, expired

    async def positions_in(self, batch: BatchRow, answered: Answered) -> set[int]:
        """The positions of a batch that are answered already."""
        found: set[int] = set()
        start = 0
        for part in batch.parts if answered else ():
            manifest = await self.reader.manifest(part.chunk_id)
            found.update(
                start + index for index in range(part.requests) if manifest.place(part.first + index) in answered
            )
            start += part.requests
        return found

    async def another_try(
        self, batch: BatchRow, decision: Decision, lease: Lease, connection: Connection
    ) -> AsyncIterator[tuple[NewChunk, float]]:
        """New chunks for the positions that get another try, each with its delay in seconds (W5).

        The delay grows with all tries, though only its own failures count against a request: what the provider expires
        or loses again and again is not paid for again at once.
        """
        policy = self.lanes.policy(batch.key)
        backoff = Backoff(policy.retry_min_seconds, policy.retry_max_seconds)
        open_chunks: dict[tuple[object, ...], Requeue] = {}
        start = 0
        parts = zip(batch.parts, batch.attempts, batch.tries, batch.turns, strict=True)
        for part, attempt, tries, turn in parts:
            outcomes = decision.outcomes[start : start + part.requests]
            again = [index for index, outcome in enumerate(outcomes) if outcome in (Outcome.RETRY, Outcome.RESEND)]
            start += part.requests
            if not again:
                continue
            manifest = await read_manifest(connection, part.chunk_id)
            payload = await read_payload(connection, part.chunk_id)
            lines = await asyncio.to_thread(read_lines, payload, manifest)
            for index in again:
                failed = outcomes[index] == Outcome.RETRY
                history = attempt + failed, tries + 1, turn
                requeue = open_chunks.setdefault((manifest.topic_id, *history), Requeue(manifest, *history))
                if requeue.add(manifest, lines, part.first + index):
                    yield await asyncio.to_thread(requeue.pack), retry_delay(backoff, requeue.tries)
            lease.touch()
        for requeue in open_chunks.values():
            if requeue.lines:
                yield await asyncio.to_thread(requeue.pack), retry_delay(backoff, requeue.tries)

    async def revise(
        self,
        lease: Lease,
        batch: BatchRow,
        decision: Decision,
        spooled: Spooled,
        first: int,
        answered: Answered = NOTHING_ANSWERED,
    ) -> Decision:
        """Validate a download against the decision; unpublished lines (from ``first``) that are gone are tried again.

        A second download may be in another order, or lack what the first one had (W4).
        """
        gone = await asyncio.to_thread(unsupported, decision.outcomes, spooled.lines.kinds, first)
        done = await self.positions_in(batch, answered)
        gone = [position for position in gone if position not in done]
        if not gone:
            return decision
        outcomes = bytearray(decision.outcomes)
        for position in gone:
            outcomes[position] = Outcome.RESEND
        revised = Decision(FORMAT, bytes(outcomes), decision.verdict_code, decision.verdict_message)
        only = bytearray(len(outcomes))
        for position in gone:
            only[position] = Outcome.RESEND
        again = partial(self.another_try, batch, Decision(FORMAT, bytes(only)), lease)
        await self.store.revise(lease, batch, revised, again)
        metrics.duplicates.labels("file_lost").inc(len(gone))
        log.error("lines.lost", batch=str(batch.id), requests=len(gone))
        return revised

    async def refused(self, lease: Lease, batch: BatchRow) -> Verdict | None:
        """A batch that failed at validation: nothing was executed (B5). Returns a verdict when it answers all."""
        error = batch.provider_errors[0] if batch.provider_errors else BatchError("unknown", "no reason given", None)
        metrics.batches_refused.labels(error.code if error.code in KNOWN_CODES else "other").inc()
        log.warning("batch.refused", batch=str(batch.id), code=error.code, line=error.line)
        count = batch.size.requests
        delay = SUBMISSION.delay_seconds(batch.refusals + 1, random.random())  # noqa: S311 - jitter
        match remedy(error, requests=count, lines_lost=batch.lines_lost, creates=batch.creates):
            case Remedy.ANSWER_ALL:
                return Verdict(error.code, error.message)
            case Remedy.AGAIN:
                await self.store.again(lease, batch.id, Again(delay, new_file=batch.refusals >= 1))
            case Remedy.AGAIN_SMALLER:
                limit = learned_limit(error.message)
                configured = self.lanes.policy(batch.key).enqueued_tokens_max
                await self.store.learn_limit(batch.key.account, batch.key.model, limit, configured)
                if count == 1 and limit is not None and batch.size.tokens > limit:
                    return Verdict(error.code, error.message)
                await self.store.again(lease, batch.id, Again(delay))
            case Remedy.ANSWER_LINE:
                line = error.line or 1
                rest = positions(batch.parts, 0, line - 1) + positions(batch.parts, line, count - line)
                bad = positions(batch.parts, line - 1, 1)
                verdict = Verdict(error.code, error.message)
                await self.store.split(lease, batch, [(bad, verdict), (rest, None)], batch.lines_lost + 1)
            case Remedy.HALVE:
                halves = [positions(batch.parts, 0, count // 2), positions(batch.parts, count // 2, count)]
                await self.store.split(lease, batch, [(half, None) for half in halves], 0)
            case Remedy.HALT_LANE:
                await self.store.halt_lane(lease, batch, f"{error.code}: {error.message}")
                log.error("lane.halted", lane=str(batch.key), code=error.code, batch=str(batch.id))
        return None

    async def learn(self, batch: BatchRow, spooled: Spooled) -> None:
        """Let real usage correct the estimate, and failures by the provider's fault slow the lane down."""
        kinds = spooled.lines.kinds
        tokens = 0
        start = 0
        for part in batch.parts:
            manifest = await self.reader.manifest(part.chunk_id)
            for index in range(part.requests):
                if kinds[start + index] == Kind.SUCCESS:
                    tokens += manifest.tokens[part.first + index]
            start += part.requests
        await self.store.calibrate(batch.key.account, batch.key.model, tokens, batch.input_tokens)
        probing = kinds.count(Kind.OWN_FAILURE) * 2 > len(kinds)
        await self.store.set_probing(batch.lane_id, probing=probing)

    def count(self, batch: BatchRow, decision: Decision) -> None:
        """Metrics of a decision."""
        label = self.lane_label(batch.key)
        for outcome, reason in ((Outcome.RETRY, "failed"), (Outcome.RESEND, "unexecuted")):
            metrics.requests_retried.labels(label, reason).inc(decision.outcomes.count(outcome))


def verdict_for_all(batch: BatchRow, verdict: Verdict) -> Decision:
    """A decision that answers every position alike."""
    return Decision(FORMAT, bytes([Outcome.VERDICT]) * batch.size.requests, verdict.code, verdict.message)


def retry_delay(backoff: Backoff, tries: int) -> float:
    """Seconds before a chunk that was tried so often may be sealed."""
    return backoff.delay_seconds(tries, random.random())  # noqa: S311 - jitter
