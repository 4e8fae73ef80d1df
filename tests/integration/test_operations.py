"""What operators do while requests come: the replicas' part of it. What Kubernetes does is in tests/deploy."""

from contextlib import AsyncExitStack

from tests.support.bridge import Bridge
from tests.support.load import load
from tests.support.service import Service


async def replica(stack: AsyncExitStack, bridge: Bridge, generation: int) -> Service:
    """A replica that has begun to work."""
    service = await stack.enter_async_context(bridge.service(generation=generation, drain_seconds=40))
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
