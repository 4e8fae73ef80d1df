"""What operators do while requests come: the replicas' part of it. What Kubernetes does is in tests/deploy."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import Bridge
from tests.support.request import chat
from tests.support.service import Service
from tests.support.stack import execute

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


async def test_a_changed_password_of_postgres_is_taken_up_without_a_restart(
    bridge: Bridge, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    role, password_file = f"role_{uuid.uuid4().hex}", tmp_path / "password"
    address = urlsplit(bridge.dsn)
    await execute(postgres, f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'first'")
    password_file.write_text("first\n")
    dsn = f"postgresql://{role}@{address.hostname}:{address.port}{address.path}"
    try:
        async with bridge.service(postgres_dsn=dsn, postgres_password_file=password_file) as service:
            await bridge.produce([chat("before")])
            await bridge.results(1)
            await execute(postgres, f"ALTER ROLE {role} PASSWORD 'second'")
            password_file.write_text("second\n")
            ending = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
            await execute(postgres, ending)
            await bridge.produce([chat("after")])
            await bridge.results(2)
            await bridge.check()
            assert service.returncode is None
    finally:
        await execute(postgres, f"DROP ROLE {role}")
