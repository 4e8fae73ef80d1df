"""Requests that are known to be answered although Postgres does not know it: it was restored from an older backup.

`penstock resume restored` reads them from the result topics. They are not taken in again, not tried again, and their
results are not published again.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

OFFSETS_MAX = 100_000
"""Offsets of a partition that are kept one by one before spans are made of them."""


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
        self.offsets: dict[tuple[bytes, int], list[int]] = {}
        self.spans: dict[tuple[bytes, int], list[AnsweredSpan]] = {}

    def add(self, topic_id: bytes, partition: int, offset: int) -> None:
        """Take an offset in."""
        offsets = self.offsets.setdefault((topic_id, partition), [])
        offsets.append(offset)
        if len(offsets) >= OFFSETS_MAX:
            self.fold(topic_id, partition)

    def fold(self, topic_id: bytes, partition: int) -> None:
        """Make spans of the offsets that are kept."""
        place = topic_id, partition
        fresh = (AnsweredSpan(each, each) for each in self.offsets.pop(place, ()))
        self.spans[place] = merged([*self.spans.get(place, ()), *fresh])

    def answered(self) -> "Answered":
        """All that came."""
        for place in list(self.offsets):
            self.fold(*place)
        return Answered(self.spans)


@dataclass(frozen=True, slots=True)
class Answered:
    """Spans by topic id and partition; nearly always none."""

    spans: Mapping[tuple[bytes, int], Sequence[AnsweredSpan]]

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __contains__(self, place: tuple[bytes, int, int]) -> bool:
        """Whether the request at a place (topic id, partition, offset) is answered."""
        topic_id, partition, offset = place
        return has(self.of(topic_id, partition), offset)

    @property
    def requests(self) -> int:
        """How many requests are answered."""
        return sum(span.last - span.first + 1 for spans in self.spans.values() for span in spans)

    def of(self, topic_id: bytes, partition: int) -> Sequence[AnsweredSpan]:
        """The spans of a partition."""
        return self.spans.get((topic_id, partition), ())


NOTHING_ANSWERED = Answered({})
"""What is so unless Postgres was restored."""
