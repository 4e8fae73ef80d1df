"""How far the demonstration is: read from the service's own database and from the topics, twice a second."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from penstock.core.lane import LaneKey, Lanes
from penstock.core.price import unpriced
from penstock.demo.tally import Tally
from penstock.postgres.census_store import Gauges
from penstock.postgres.report_store import ReportStore

INTERVAL_SECONDS = 0.5
RATE_SECONDS = 3.0
BATCHES = 1000
SETTLED_STATES = ("published", "split")


@dataclass(slots=True)
class Progress:
    """What the screen shows.

    Args:
        tally: what came back so far.
        lanes: the policies in force.
        total: messages that will be sent.
    """

    tally: Tally
    lanes: Lanes
    total: int
    started: float = field(default_factory=time.monotonic)
    sent: int = 0
    gauges: Gauges | None = None
    batches: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    history: deque[tuple[float, int]] = field(default_factory=deque)
    advanced: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started

    @property
    def answered(self) -> int:
        """Results and dead letters so far."""
        return len(self.tally.answers)

    @property
    def per_second(self) -> float:
        """Answers a second, over the last seconds."""
        if len(self.history) < 2:  # noqa: PLR2004 - a rate takes two points
            return 0.0
        (first, before), (last, after) = self.history[0], self.history[-1]
        return (after - before) / (last - first)

    @property
    def queue(self) -> int:
        """Requests in the service that have no answer yet."""
        return sum(wait.requests for wait in self.gauges.waits) if self.gauges else 0

    @property
    def oldest_seconds(self) -> float:
        """Age of the oldest of those."""
        return max((wait.oldest_age_seconds for wait in self.gauges.waits), default=0.0) if self.gauges else 0.0

    @property
    def saved_usd(self) -> float:
        """What the batches cost less than the same requests one by one."""
        return float(self.totals.get("saving_usd", 0.0))

    @property
    def unpriced(self) -> str:
        """What cost and savings leave out; empty when they leave nothing out."""
        return unpriced(self.totals.get("unpriced_tokens", 0), self.totals.get("unpriced_models", []))

    @property
    def is_complete(self) -> bool:
        """Whether all is sent, answered, and nothing is left in the service."""
        idle = self.gauges is not None and not self.gauges.waits
        settled = all(each["state"] in SETTLED_STATES for each in self.batches)
        return self.sent == self.total and self.answered >= self.total and idle and settled

    def windows(self) -> dict[LaneKey, int]:
        """Requests in each lane's open window."""
        waits = self.gauges.waits if self.gauges else []
        return {wait.key: wait.requests for wait in waits if wait.stage == "window"}

    def statuses(self) -> dict[LaneKey, dict[str, int]]:
        """Batches of each lane by what people follow: the provider's status while it has them, else our state."""
        found: dict[LaneKey, dict[str, int]] = {}
        for each in self.batches:
            key = LaneKey(each["account"], each["endpoint"], each["model"], each["completion_window"])
            status = each["provider_status"] if each["state"] == "submitted" else each["state"]
            counts = found.setdefault(key, {})
            counts[status] = counts.get(status, 0) + 1
        return found

    async def watch(self, store: ReportStore, stall_seconds: float) -> None:
        """Read again and again, until everything is done or nothing has happened for so long."""
        while not self.is_complete and time.monotonic() - self.advanced < stall_seconds:
            await asyncio.sleep(INTERVAL_SECONDS)
            before = (self.sent, self.batches, self.history[-1][1] if self.history else 0)
            self.gauges = await store.gauges()
            self.batches = await store.batches(None, BATCHES)
            self.totals = await store.totals()
            now = time.monotonic()
            if before != (self.sent, self.batches, self.answered):
                self.advanced = now
            self.history.append((now, self.answered))
            while self.history[-1][0] - self.history[0][0] > RATE_SECONDS:
                self.history.popleft()
