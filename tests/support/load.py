"""Requests that come without end while operators do something."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.bridge import Bridge
from tests.support.request import chat

PAUSE_SECONDS = 0.05
ROLL_SECONDS = 120.0


class Load:
    """Requests without end, and how many they were."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.sent = 0

    async def run(self) -> None:
        """Send until it is cancelled."""
        while True:
            await self.bridge.produce([chat(f"request-{self.sent + n}") for n in range(5)])
            self.sent += 5
            await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def load(bridge: Bridge) -> AsyncIterator[Load]:
    """Requests during the block; after it every result is there, and nothing is lost, doubled or crossed."""
    made = Load(bridge)
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await bridge.results(made.sent, ROLL_SECONDS)
    await bridge.check()
