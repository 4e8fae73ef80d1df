"""What operators do while requests come: the replicas' part of it. What Kubernetes does is in tests/deploy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tests.support.bridge import Bridge
from tests.support.request import chat
from tests.support.service import Service

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


async def replica(stack: AsyncExitStack, bridge: Bridge, generation: int) -> Service:
    """A replica that has begun to work."""
    service = await stack.enter_async_context(bridge.service(generation=generation))
    await service.reached("penstock_rebalances_total", 1)
    return service


async def test_replicas_are_replaced_one_by_one_under_load(bridge: Bridge) -> None:
    async with AsyncExitStack() as stack:
        old = [await replica(stack, bridge, 1) for _ in range(2)]
        async with load(bridge) as requests:
            for each in old:
                before = requests.sent
                new = await replica(stack, bridge, 2)
                assert await each.stop() == 0
                await new.reached("penstock_partitions_assigned", 1)
                assert requests.sent > before


async def test_replicas_grow_to_five_and_shrink_to_one_under_load(bridge: Bridge) -> None:
    async with AsyncExitStack() as stack:
        first = await replica(stack, bridge, 1)
        async with load(bridge):
            more = [await replica(stack, bridge, 1) for _ in range(4)]
            for each in more:
                assert await each.stop() == 0
            await first.reached("penstock_partitions_assigned", 3)
