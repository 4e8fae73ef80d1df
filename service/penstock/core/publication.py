"""The records of a decided batch, in the order of its requests: results, and dead letters where that is the outcome."""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from penstock.core.answered import NOTHING_ANSWERED, Answered
from penstock.core.chunk import Headers, Manifest
from penstock.core.decision import FINAL, FROM_FILE, Decision, Outcome
from penstock.core.reasons import reason
from penstock.core.result import (
    HEADERS_BYTES_MAX,
    KEY_BYTES_MAX,
    dead_letter_headers,
    error_value,
    original_line,
    result_headers,
    result_value,
    truncated,
)
from penstock.core.window import Part

RECORD_BYTES = 1024 * 1024
"""Kafka's default `max.message.bytes`, for a topic whose own limit is not known."""
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-")
RECORD_OVERHEAD_BYTES = 512
"""What the record's frame takes beside key, value and headers."""


class Record(NamedTuple):
    """A record to be sent; ``fallback`` chooses the partition of a record without a key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    dead: str | None = None
    """The reason code of a dead letter."""


@dataclass(frozen=True, slots=True)
class Publication:
    """What all records of a batch share.

    Args:
        decision: the outcomes.
        line_of: the provider's line of a position, from the spool.
        place_of: the provider's file that holds it, and the byte where it starts there.
        dead_letter_topic: where dead letters go.
        limits: the largest record of each topic, in bytes.
        answered: requests whose result is in its topic already.
    """

    decision: Decision
    line_of: Callable[[int], bytes]
    place_of: Callable[[int], tuple[str, int]]
    dead_letter_topic: str
    limits: dict[str, int]
    answered: Answered = NOTHING_ANSWERED

    def records(
        self,
        manifest: Manifest,
        part: Part,
        start: int,
        first: int,
        last: int,
        lines: Sequence[bytes] | None,
        headers: Headers,
    ) -> list[Record]:
        """Records of the positions from ``first`` to before ``last``, all inside one part.

        CPU work of about 5 µs each and reads of the spool: call it off the loop.

        Args:
            manifest: of the part's chunk.
            part: the part.
            start: the position of the part's first request.
            first: the first position wanted.
            last: the position after the last one wanted.
            lines: the chunk's lines; needed for dead letters alone (see `may_overflow`).
            headers: those that every result of the part carries.
        """
        found = []
        for position in range(first, last):
            outcome, index = Outcome(self.decision.outcomes[position]), part.first + position - start
            if outcome in FINAL and not (self.answered and manifest.origin(index) in self.answered):
                found.append(self.record(manifest, index, position, outcome, lines, headers))
        return found

    def record(
        self,
        manifest: Manifest,
        index: int,
        position: int,
        outcome: Outcome,
        lines: Sequence[bytes] | None,
        batch_headers: Headers,
    ) -> Record:
        """The record of one position."""
        if outcome is Outcome.DEAD_LETTER:
            code, said = manifest.reasons[index]
            own = None if lines is None or index in manifest.nulls else lines[index]
            headers = dead_letter_headers(manifest, index, code, said, "intake")
            return self.dead_letter(manifest, index, code, own, headers)
        topic = manifest.result_topics[index]
        value = self.value(manifest, index, position, outcome)
        headers = result_headers(manifest, index, batch_headers)
        key = manifest.keys[index]
        limit = self.limits.get(topic, RECORD_BYTES)
        if not may_overflow(len(value), limit) or record_bytes(key, value, headers) <= limit:
            return Record(topic, key, value, headers)
        said = reason("result_too_large", size=len(value), topic=topic)
        line = original_line(lines[index], manifest.custom_ids[index]) if lines is not None else b""
        dead = [*dead_letter_headers(manifest, index, "result_too_large", said, "publisher"), *batch_headers]
        if outcome in FROM_FILE:
            file_id, place = self.place_of(position)
            dead += [("penstock.provider.file", file_id.encode()), ("penstock.provider.byte", str(place).encode())]
        return self.dead_letter(manifest, index, "result_too_large", line, dead)

    def value(self, manifest: Manifest, index: int, position: int, outcome: Outcome) -> bytes:
        """The result's value."""
        custom_id = manifest.custom_ids[index]
        if outcome in FROM_FILE:
            return result_value(self.line_of(position), custom_id)
        if outcome is Outcome.DEADLINE:
            message = "The request's deadline passed before another attempt could start."
            return error_value(manifest.result_id(index), custom_id, "deadline_exceeded", message)
        if outcome is Outcome.UNREADABLE:
            file_id, place = self.place_of(position)
            message = "The provider executed the request several times, and none of its results could be read." + (
                f" The last one is in the provider's file {file_id}, at byte {place}." if file_id else ""
            )
            return error_value(manifest.result_id(index), custom_id, "unreadable_result", message)
        verdict = self.decision
        return error_value(manifest.result_id(index), custom_id, verdict.verdict_code, verdict.verdict_message)

    def dead_letter(self, manifest: Manifest, index: int, code: str, value: bytes | None, headers: Headers) -> Record:
        """A dead letter, cut to what its topic takes; ``headers`` begin with the message's own."""
        key = manifest.keys[index]
        limit = self.limits.get(self.dead_letter_topic, RECORD_BYTES)
        if value is not None and record_bytes(key, value, headers) > limit:
            value, more = truncated(value, limit // 2)
            headers = [*headers, *more]
        theirs = len(manifest.headers[index])
        if record_bytes(key, value, headers) > limit:
            headers = [*headers[theirs:], ("penstock.truncated.headers", str(theirs).encode())]
        if record_bytes(key, value, headers) > limit and key is not None:
            headers = [*headers, ("penstock.truncated.key.sha256", hashlib.sha256(key).hexdigest().encode())]
            key = None
        return Record(self.dead_letter_topic, key, value, headers, code)


def traces(records: Iterable[Record]) -> list[str]:
    """The W3C trace ids that records carry, each once."""
    found = (value for each in records for name, value in each.headers if name == "traceparent" and value)
    return sorted({match[1].decode() for value in found if (match := TRACEPARENT.match(value))})


def may_overflow(value_bytes: int, limit: int) -> bool:
    """Whether a value, or a provider's line, of this length might make a record larger than this."""
    return value_bytes + HEADERS_BYTES_MAX + KEY_BYTES_MAX + 4 * RECORD_OVERHEAD_BYTES > limit


def record_bytes(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """A record's size, a little overstated."""
    return (
        RECORD_OVERHEAD_BYTES
        + len(key or b"")
        + len(value or b"")
        + sum(len(n) + len(v or b"") + 8 for n, v in headers)
    )


def shared_headers(
    batch_id: str, provider_batch_id: str | None, attempt: int, submitted_at: datetime | None, ended_at: datetime | None
) -> list[tuple[str, bytes | None]]:
    """Headers that all results of a part share: batch, attempt and times."""
    return [
        ("penstock-batch-id", batch_id.encode()),
        ("penstock-provider-batch-id", (provider_batch_id or "").encode()),
        ("penstock-attempt", str(attempt + 1).encode()),
        ("penstock-submitted-at", submitted_at.isoformat().encode() if submitted_at else b""),
        ("penstock-ended-at", ended_at.isoformat().encode() if ended_at else b""),
    ]
