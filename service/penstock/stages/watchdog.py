"""The watchdog: how late the event loop runs, and how much room the spool's disk has."""

import asyncio
import time

from penstock.spool import Spool
from penstock.stages.stage import Stage
from penstock.telemetry import metrics

TICK_SECONDS = 0.1
WINDOW_TICKS = 100


class Watchdog(Stage):
    """Measures the loop's lag and the spool's disk; its own ticks are the liveness of the process."""

    name = "watchdog"

    def __init__(self, drain: asyncio.Event, spool: Spool) -> None:
        super().__init__(drain)
        self.spool = spool
        self.worst = 0.0
        self.ticks = 0

    async def round(self) -> float:
        """One tick."""
        due = time.monotonic() + TICK_SECONDS
        await asyncio.sleep(TICK_SECONDS)
        self.worst = max(self.worst, time.monotonic() - due)
        self.ticks += 1
        if self.ticks % WINDOW_TICKS == 0:
            metrics.loop_lag.set(self.worst)
            self.worst = 0.0
            await self.spool.measure()
        return 0.0
