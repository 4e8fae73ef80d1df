"""The collector: a finished batch's files are downloaded and checked, and each position gets its outcome.

It works under the slot's lease, hand in hand with the publisher, who sends what lies in the spool.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

import msgspec
import structlog

from penstock.core.answered import NOTHING_ANSWERED, Answered
from penstock.core.batch import CANCELLED, BatchError, Cancel, Remedy, Verdict, remedy
from penstock.core.chunk import NewChunk, read_lines
from penstock.core.decision import (
    FORMAT,
    Decision,
    Kind,
    Outcome,
    decide,
    unsupported,
)
from penstock.core.identity import new_id
from penstock.core.lane import LaneKey, Lanes
from penstock.core.requeue import Requeues, Try
from penstock.core.retry import SUBMISSION, Backoff
from penstock.core.window import probe_next
from penstock.postgres.batch_row import BatchRow, ChunkReader, read_payload
from penstock.postgres.collector_store import CollectorStore
from penstock.postgres.database import Connection
from penstock.postgres.submitter_store import Again
from penstock.postgres.window_store import read_manifest
from penstock.stages.downloader import Spooled
from penstock.stages.lease import Lease
from penstock.stages.refusals import Refusals
from penstock.telemetry import metrics

log = structlog.get_logger()


@dataclass(slots=True)
class Collector:
    """Decides batches. Holds nothing that a crash may lose."""

    store: CollectorStore
    reader: ChunkReader
    lanes: Lanes
    lane_label: Callable[[LaneKey], str]
    unreadable_max: int
    refusals: Refusals

    async def decide(
        self, lease: Lease, batch: BatchRow, spooled: Spooled | None, answered: Answered = NOTHING_ANSWERED
    ) -> bool:
        """Decide an ended batch, or send it or its pieces again; returns whether it is decided."""
        policy = self.lanes.policy(batch.key)
        kinds = spooled.judged() if spooled else bytes(batch.size.requests)
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
            attempts, expired = await self.histories(batch)
            cancelled = CANCELLED if batch.cancel is Cancel.ANSWER else None
            done = await self.positions_in(batch, answered)
            given_up = self.unreadable_too_often(batch)
            decision = decide(kinds, attempts, policy.attempts_max, expired, cancelled, done, given_up)
            if spooled:
                await self.learn(batch, spooled)
            if spooled and (spooled.file_ids or batch.provider_status == "completed"):
                # They were executed, as far as is known, and are paid for again.
                cause = "file_lost" if spooled.lost else "line_lost"
                resent = zip(kinds, decision.outcomes, strict=True)
                metrics.duplicates.labels(cause).inc(Counter(resent)[Kind.MISSING, Outcome.RESEND])
                tried_again = kinds.count(Kind.UNREADABLE) - decision.outcomes.count(Outcome.UNREADABLE)
                metrics.duplicates.labels("unreadable").inc(tried_again)
        again = partial(self.another_try, batch, decision, lease, kinds)
        await self.store.decide(lease, batch, new_id(), decision, again)
        self.count(batch, decision, kinds)
        return True

    def unreadable_too_often(self, batch: BatchRow) -> set[int]:
        """The positions that have their last try: once more without a readable result, and that is their answer."""
        found: set[int] = set()
        start = 0
        for part, unreadable in zip(batch.parts, batch.unreadables, strict=True):
            if unreadable + 1 >= self.unreadable_max:
                found.update(range(start, start + part.requests))
            start += part.requests
        return found

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
                start + index for index in range(part.requests) if manifest.origin(part.first + index) in answered
            )
            start += part.requests
        return found

    async def another_try(
        self, batch: BatchRow, decision: Decision, lease: Lease, kinds: bytes, connection: Connection
    ) -> AsyncIterator[tuple[NewChunk, float]]:
        """New chunks for the positions that get another try, each with its delay in seconds (W5).

        The delay grows with all tries, though only its own failures count against a request: what the provider expires
        or loses again and again is not paid for again at once.
        """
        policy = self.lanes.policy(batch.key)
        backoff = Backoff(policy.retry_min_seconds, policy.retry_max_seconds)
        requeues = Requeues()
        start = 0
        parts = zip(batch.parts, batch.attempts, batch.unreadables, batch.kept, strict=True)
        for part, attempt, unreadable, kept in parts:
            outcomes = decision.outcomes[start : start + part.requests]
            again = [
                Try(index, attempt + (outcome == Outcome.RETRY), unreadable + (kind == Kind.UNREADABLE))
                for index, (outcome, kind) in enumerate(zip(outcomes, kinds[start:], strict=False), part.first)
                if outcome in (Outcome.RETRY, Outcome.RESEND)
            ]
            start += part.requests
            if not again:
                continue
            manifest = await read_manifest(connection, part.chunk_id)
            payload = await read_payload(connection, part.chunk_id)
            lines = await asyncio.to_thread(read_lines, payload, manifest)
            for chunk in await asyncio.to_thread(requeues.take, manifest, lines, again, kept):
                yield chunk, retry_delay(backoff, chunk.tries)
            lease.touch()
        for chunk in await asyncio.to_thread(requeues.rest):
            yield chunk, retry_delay(backoff, chunk.tries)

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

        A second download may be in another order, or lack what the first one had (W4). Where an operator wants no other
        try, they are answered as cancelled.
        """
        gone = await asyncio.to_thread(unsupported, decision.outcomes, spooled.lines.kinds, first)
        done = await self.positions_in(batch, answered)
        gone = [position for position in gone if position not in done]
        if not gone:
            return decision
        outcomes = bytearray(decision.outcomes)
        only = bytearray(len(outcomes))
        answer = batch.cancel is Cancel.ANSWER
        for position in gone:
            outcomes[position] = only[position] = Outcome.VERDICT if answer else Outcome.RESEND
        revised = msgspec.structs.replace(decision, outcomes=bytes(outcomes))
        if answer:
            revised.verdict_code, revised.verdict_message = CANCELLED.code, CANCELLED.message
        again = partial(self.another_try, batch, Decision(FORMAT, bytes(only)), lease, bytes(len(only)))
        await self.store.revise(lease, batch, revised, again)
        metrics.duplicates.labels("file_lost").inc(only.count(Outcome.RESEND))
        log.error("lines.lost", batch=str(batch.id), requests=len(gone))
        return revised

    async def refused(self, lease: Lease, batch: BatchRow) -> Verdict | None:
        """A batch that failed at validation: nothing was executed (B5). Returns a verdict when it answers all."""
        error = batch.provider_errors[0] if batch.provider_errors else BatchError("unknown", "no reason given", None)
        action = remedy(error, requests=batch.size.requests, lines_lost=batch.lines_lost, creates=batch.creates)
        delay = SUBMISSION.delay_seconds(batch.own_creates, random.random())  # noqa: S311 - jitter
        new_file = action is Remedy.AGAIN and batch.own_creates > 1
        return await self.refusals.act(lease, batch, error, action, Again(delay, new_file=new_file))

    async def learn(self, batch: BatchRow, spooled: Spooled) -> None:
        """Let real usage correct the estimate, and failures by the provider's fault slow the lane down."""
        kinds = spooled.lines.kinds
        tokens = first = first_failed = 0
        start = 0
        for part, attempt in zip(batch.parts, batch.attempts, strict=True):
            if attempt == 0:
                first += part.requests
                first_failed += kinds.count(Kind.OWN_FAILURE, start, start + part.requests)
            manifest = await self.reader.manifest(part.chunk_id)
            for index in range(part.requests):
                if kinds[start + index] == Kind.SUCCESS:
                    tokens += manifest.tokens[part.first + index]
            start += part.requests
        await self.store.calibrate(batch.key.account, batch.key.model, tokens, batch.input_tokens)
        probing = probe_next(first, first_failed, len(kinds), kinds.count(Kind.OWN_FAILURE))
        if probing is not None:
            await self.store.set_probing(batch.lane_id, probing=probing)

    def count(self, batch: BatchRow, decision: Decision, kinds: bytes) -> None:
        """Metrics of a decision."""
        label = self.lane_label(batch.key)
        if unreadable := kinds.count(Kind.UNREADABLE):
            metrics.results_unreadable.labels(label).inc(unreadable)
            log.error(
                "results.unreadable",
                batch=str(batch.id),
                provider_batch=batch.provider_batch_id,
                requests=unreadable,
                answered=decision.outcomes.count(Outcome.UNREADABLE),
                fix="look at the provider's files: these requests were paid for, and their lines cannot be read",
            )
        for outcome, reason in ((Outcome.RETRY, "failed"), (Outcome.RESEND, "unexecuted")):
            metrics.requests_retried.labels(label, reason).inc(decision.outcomes.count(outcome))


def verdict_for_all(batch: BatchRow, verdict: Verdict) -> Decision:
    """A decision that answers every position alike."""
    return Decision(FORMAT, bytes([Outcome.VERDICT]) * batch.size.requests, verdict.code, verdict.message)


def retry_delay(backoff: Backoff, tries: int) -> float:
    """Seconds before a chunk that was tried so often may be sealed."""
    return backoff.delay_seconds(tries, random.random())  # noqa: S311 - jitter
