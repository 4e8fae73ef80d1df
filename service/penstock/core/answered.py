"""Requests that are known to be answered although Postgres does not know it: it was restored from an older backup.

`penstock resume restored` reads them from the result topics. They are not taken in again, not tried again, and their
results are not published again.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from penstock.core.identity import Origin

Log = tuple[bytes, int, int]
"""A topic's id, a partition and its incarnation: within it an offset names one message."""
OFFSETS_MAX = 100_000
"""Offsets of a partition that are kept one by one before spans are made of them."""


def log_of(origin: Origin) -> Log:
    """The log that a message stands in."""
    return origin.topic_id, origin.partition, origin.incarnation


class AnsweredSpan(NamedTuple):
    """Offsets of a partition, from the first to the last."""

    first: int
    last: int


def merged(spans: Iterable[AnsweredSpan]) -> list[AnsweredSpan]:
    """Spans in any order, overlapping or not, as spans in rising order that do not touch."""
    found: list[AnsweredSpan] = []
    for span in sorted(spans):
        if found and span.first <= found[-1].last + 1:
            found[-1] = AnsweredSpan(found[-1].first, max(found[-1].last, span.last))
        else:
            found.append(span)
    return found


def has(spans: Sequence[AnsweredSpan], offset: int) -> bool:
    """Whether an offset is in any of the spans, which are in rising order and do not overlap."""
    place = bisect_right(spans, (offset, float("inf")))
    return place > 0 and offset <= spans[place - 1].last


class Gatherer:
    """Puts offsets together to spans, however many there are and in whatever order they come."""

    def __init__(self) -> None:
        self.offsets: dict[Log, list[int]] = {}
        self.spans: dict[Log, list[AnsweredSpan]] = {}

    def add(self, origin: Origin) -> None:
        """Take a message in."""
        log = log_of(origin)
        offsets = self.offsets.setdefault(log, [])
        offsets.append(origin.offset)
        if len(offsets) >= OFFSETS_MAX:
            self.fold(log)

    def fold(self, place: Log) -> None:
        """Make spans of the offsets that are kept."""
        fresh = (AnsweredSpan(each, each) for each in self.offsets.pop(place, ()))
        self.spans[place] = merged([*self.spans.get(place, ()), *fresh])

    def answered(self) -> "Answered":
        """All that came."""
        for place in list(self.offsets):
            self.fold(place)
        return Answered(self.spans)


@dataclass(frozen=True, slots=True)
class Answered:
    """Spans by topic id, partition and incarnation; nearly always none."""

    spans: Mapping[Log, Sequence[AnsweredSpan]]

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __contains__(self, origin: Origin) -> bool:
        """Whether the request that a message brought is answered."""
        return has(self.spans.get(log_of(origin), ()), origin.offset)

    @property
    def requests(self) -> int:
        """How many requests are answered."""
        return sum(span.last - span.first + 1 for spans in self.spans.values() for span in spans)

    def latest(self, topic_id: bytes, partition: int) -> tuple[int, int]:
        """The last incarnation of a partition that has an answer, and the first offset that is answered in it."""
        found = (log[2] for log, spans in self.spans.items() if log[:2] == (topic_id, partition) and spans)
        incarnation = max(found, default=0)
        spans = self.of(topic_id, partition, incarnation)
        return incarnation, spans[0].first if spans else 0

    def of(self, topic_id: bytes, partition: int, incarnation: int) -> Sequence[AnsweredSpan]:
        """The spans of an incarnation of a partition."""
        return self.spans.get((topic_id, partition, incarnation), ())


NOTHING_ANSWERED = Answered({})
"""What is so unless Postgres was restored."""
