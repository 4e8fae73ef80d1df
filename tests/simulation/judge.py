"""What must hold after every step and at the end, kept by a judge who counts for himself."""

import math
import uuid
from bisect import bisect_right
from collections.abc import Container, Sequence
from typing import Any

from penstock.core.batch import CREATES_MAX
from penstock.core.decision import Decision, Outcome
from penstock.core.lane import LanePolicy
from penstock.core.publication import Record
from penstock.core.window import Sealed, Size, WindowLimits
from tests.simulation.scenario import HOUR, Scenario

BOUND_SECONDS = 24 * HOUR + 24 * HOUR + 6 * HOUR
"""How long past its deadline a request may be under way: a day at the provider, a day when the provider knows none of
our batches any more, the graces, and some hours in which faults keep the stages from working."""
CREATES_OVER = 16
"""Pieces of a refused window that may be under way when its creates are used up; each comes to its end."""

ORDER = ("validating", "in_progress", "finalizing", "cancelling", "completed", "failed", "expired", "cancelled")
AGAIN = (Outcome.RETRY, Outcome.RESEND)
NOT_OVER = (False, False, False)
AHEAD_MAX = 2
TURNS = 32


def part(size: Size, limits: WindowLimits) -> list[float]:
    """How much of each of a window's limits a size is."""
    tokens = size.tokens / limits.tokens if limits.tokens else 0.0
    return [size.requests / limits.requests, size.bytes / limits.bytes, size.inputs / limits.inputs, tokens]


class Violated(AssertionError):
    """A property does not hold."""


class Judge:
    """Counts answers, creates and what was forgiven."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.arrived: list[int] = []
        self.deadlines: dict[int, float] = {}
        self.answers: dict[int, str] = {}
        self.order: list[int] = []
        self.forgiven = [0] * len(scenario.natures)
        """How often each request may have been paid for in vain, and that was counted."""
        self.creates: list[float] = []
        self.left: dict[uuid.UUID, list[int]] = {}

    def arrive(self, offset: int, now: float) -> None:
        """A request was stored."""
        self.arrived.append(offset)
        self.deadlines[offset] = now + self.scenario.natures[offset].deadline_seconds

    def in_one_place(self, places: list[int]) -> None:
        """Each request is in exactly one place: unsealed, in one live batch, or answered."""
        places += self.order
        places.sort()
        if places != self.arrived:
            twice = sorted({each for each in places if places.count(each) > 1})
            missing = sorted(set(self.arrived) - set(places))
            raise Violated(f"requests {twice} are in two places, {missing} in none")

    def sealed(
        self, sealed: Sealed, limits: WindowLimits, inside: Sequence[tuple[int, Size]], left: Sequence[int]
    ) -> None:
        """A window was sealed, of these requests; others that could have been in it are left."""
        self.ranked([offset for offset, _ in inside], left)
        self.fair(limits, inside, left)
        broken = limits.broken_by(sealed.size)
        if broken is not None and sealed.size.requests > 1:
            raise Violated(f"a window of {sealed.size} is over its limit of {broken}")

    def ranked(self, inside: Sequence[int], left: Sequence[int]) -> None:
        """Nothing goes while something of a higher priority is left."""
        natures = self.scenario.natures
        last = max(natures[offset].priority for offset in inside)
        if any(natures[offset].priority < last for offset in left):
            raise Violated("a lower priority was sealed before a higher one")

    def fair(self, limits: WindowLimits, inside: Sequence[tuple[int, Size]], left: Sequence[int]) -> None:
        """No tenant has, beyond a turn, more of a window than one of the same priority that has some left.

        Where tenants share chunks, they do not wait for each other's windows but take turns from chunk to chunk.
        """
        if self.scenario.share_requests > 1:
            return
        natures = self.scenario.natures
        last = max(natures[offset].priority for offset, _ in inside)
        waits = {natures[offset].tenant for offset in left if natures[offset].priority == last}
        parts: dict[str, list[float]] = dict.fromkeys(waits, [0.0] * 4)
        turn = 1 / TURNS
        for offset, size in inside:
            if natures[offset].priority == last:
                own = part(size, limits)
                turn = max(turn, *own)
                had = parts.get(natures[offset].tenant, [0.0] * 4)
                parts[natures[offset].tenant] = [a + b for a, b in zip(had, own, strict=True)]
        least = min((max(parts[tenant]) for tenant in waits), default=math.inf)
        if (most := max(map(max, parts.values()), default=0.0)) > least + turn + 1e-9:
            raise Violated(f"one tenant has {most:.2f} of a window, one that waits {least:.2f}")

    def held_back(self, waiting: Sequence[tuple[int, int]], inside: Sequence[int], limit: int | None) -> None:
        """A window was sealed while batches, by priority and tokens, waited: they were not enough yet."""
        first = min(self.scenario.natures[offset].priority for offset in inside)
        before = [tokens for priority, tokens in waiting if priority <= first]
        if len(before) >= AHEAD_MAX if limit is None else sum(before) >= limit + len(before):
            raise Violated(f"{len(before)} batches of {sum(before)} tokens were sealed ahead already")

    def created(self, now: float, offsets: Sequence[int], size: Size, policy: LanePolicy, window_creates: int) -> None:
        """A create goes out."""
        over = (size.requests > policy.requests_max, size.bytes > policy.bytes_max)
        if size.requests > 1 and (*over, size.inputs > policy.inputs_max and size.inputs > size.requests) != NOT_OVER:
            raise Violated(f"a batch of {size} is over a limit")
        late = [offset for offset in offsets if self.deadlines[offset] < now]
        if late:
            raise Violated(f"requests {late} are started after their deadline")
        self.creates.append(now)
        used = len(self.creates) - bisect_right(self.creates, now - HOUR)
        if used > self.scenario.creates_per_hour:
            raise Violated(f"{used} creates in an hour")
        if window_creates > CREATES_MAX + CREATES_OVER:
            raise Violated(f"{window_creates} creates of one window")

    def reserved(self, tokens: Sequence[int], limit: int | None) -> None:
        """Tokens were reserved of a model."""
        if limit is not None and sum(tokens) > limit and len(tokens) > 1:
            raise Violated(f"{sum(tokens)} tokens are reserved of {limit}")

    def granted(self, chosen: Sequence[Any], waiting: Sequence[Any]) -> None:
        """Of those who wait some were granted: by priority, and no younger one before an older one."""
        if list(chosen) != sorted(waiting, key=self.place)[: len(chosen)]:
            raise Violated("a batch was granted its tokens before one of a higher priority, or an older one")

    def place(self, batch: Any) -> tuple[int, float, int]:
        """Where a batch stands among those that wait."""
        return min(self.scenario.natures[each].priority for each in batch.offsets), batch.sealed_at, batch.number

    def status(self, before: str, after: str) -> None:
        """A status was recorded."""
        if ORDER.index(after) <= ORDER.index(before) or before in ORDER[4:]:
            raise Violated(f"{before} became {after}")

    def timely(self, decision: Decision, offsets: Sequence[int], now: float) -> None:
        """A decision was made: nothing is given up for its deadline too early, and nothing tried again too late."""
        for offset, outcome in zip(offsets, decision.outcomes, strict=True):
            late = outcome == Outcome.DEADLINE or decision.verdict_code == "deadline_exceeded"
            if late and now < self.deadlines[offset]:
                raise Violated(f"request {offset} is answered as late before its deadline")
            if outcome in AGAIN and now >= self.deadlines[offset]:
                raise Violated(f"request {offset} is tried again after its deadline")

    def decided(self, batch_id: uuid.UUID, decision: Decision, offsets: Sequence[int], paid: Container[int]) -> None:
        """A decision was made or revised; ``paid`` are the requests whose successes are at hand."""
        for offset, outcome in zip(offsets, decision.outcomes, strict=True):
            if (outcome == Outcome.OUTPUT) != (offset in paid):
                raise Violated(f"request {offset} is decided as {outcome}, paid for: {offset in paid}")
        finals = [offset for offset, outcome in zip(offsets, decision.outcomes, strict=True) if outcome not in AGAIN]
        done = set(self.order)
        self.left[batch_id] = [offset for offset in finals if offset not in done]

    def unpublished(self, batch_id: uuid.UUID) -> list[int]:
        """Requests with a final outcome that is not published yet."""
        return self.left[batch_id]

    def published(self, batch_id: uuid.UUID, records: Sequence[Record], now: float) -> None:
        """Results were committed."""
        left = self.left[batch_id]
        for record in records:
            (result,) = [content for name, content in record.headers if name == "penstock-result-id"]
            offset = int((result or b"").rsplit(b"/", 1)[1])
            if offset in self.answers:
                raise Violated(f"request {offset} is answered twice")
            if offset not in left:
                raise Violated(f"request {offset} is answered in a batch that it is not of")
            left.remove(offset)
            self.order.append(offset)
            self.answers[offset] = self.read(offset, record)
            late = now - self.deadlines[offset]
            if late > BOUND_SECONDS:
                raise Violated(f"request {offset} is answered {late / HOUR:.0f} h after its deadline")

    def read(self, offset: int, record: Record) -> str:
        """What an answer says: `success`, or a code; held against what is true of its request."""
        nature = self.scenario.natures[offset]
        if record.dead is not None:
            if nature.valid:
                raise Violated(f"request {offset} is a dead letter")
            return record.dead
        value = record.value or b""
        if b'"custom_id":"r-%d"' % offset not in value:
            raise Violated(f"request {offset} has another's custom_id")
        if b'"response":null' in value:
            return "failed" if b'"code":"deadline_exceeded"' not in value else "deadline_exceeded"
        if b'"n":%d}' % offset not in value:
            raise Violated(f"request {offset} has another's answer")
        if b'"status_code":200' in value:
            return "success"
        return "bad" if b'"status_code":400' in value else "failed"

    def close(self, executed: Sequence[int], reserved: Sequence[object]) -> None:
        """At the end: every request has its answer, what was paid for is answered or counted, no token is left held."""
        if reserved:
            raise Violated(f"{len(reserved)} batches that have ended hold tokens")
        unanswered = sorted(set(self.arrived) - self.answers.keys())
        if unanswered:
            raise Violated(f"requests {unanswered} have no answer")
        for offset in self.arrived:
            extra = executed[offset] - (self.answers[offset] == "success")
            if extra > self.forgiven[offset]:
                raise Violated(f"request {offset} was paid for {executed[offset]} times: {self.answers[offset]}")
