"""Ten minutes without Postgres: the group does not notice, and afterwards all goes on without help."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from penstock.embedded.postgres import EmbeddedPostgres
from tests.benchmark.figure import Figure
from tests.benchmark.ground import Ground
from tests.support.bridge import Bridge, open_bridge
from tests.support.group import generation
from tests.support.request import chat
from tests.support.stalled import stalled

AWAY_SECONDS = 630.0
"""Twice what the client allows between two polls, and more."""
ROUND_SECONDS = 5.0
PER_ROUND = 20
CATCH_UP_SECONDS = 120.0

Outage = Callable[[EmbeddedPostgres], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def killed(postgres: EmbeddedPostgres) -> AsyncIterator[None]:
    """Killed, and started again at the end."""
    await postgres.kill()
    try:
        yield
    finally:
        await postgres.start()


async def produce(bridge: Bridge, seconds: float, sent: int) -> int:
    """Some requests at a time, for so long; returns how many there are now."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        await bridge.produce([chat(f"request-{sent + each}") for each in range(PER_ROUND)])
        sent += PER_ROUND
        await asyncio.sleep(ROUND_SECONDS)
    return sent


async def without(ground: Ground, what: str, outage: Outage) -> Sequence[Figure]:
    """Produce before and during the outage, then wait for every answer, and judge."""
    folder = ground.folder / "bridge"
    folder.mkdir()
    async with open_bridge(ground.kafka, ground.postgres, folder) as bridge, bridge.service() as service:
        group = f"penstock-{bridge.deployment}"
        sent = await produce(bridge, ROUND_SECONDS, 0)
        await bridge.results(sent)
        before = await generation(ground.kafka.bootstrap_servers, group)
        started = time.monotonic()
        async with outage(ground.postgres):
            sent = await produce(bridge, AWAY_SECONDS, sent)
        back = time.monotonic()
        await bridge.results(sent, CATCH_UP_SECONDS)
        caught_up = time.monotonic()
        after = await generation(ground.kafka.bootstrap_servers, group)
        rebalances = await service.metric("penstock_rebalances_total")
        await bridge.check()
    return [
        Figure(f"Postgres {what}", (back - started) / 60, "minutes", least=10),
        Figure(f"changes of the consumer group's generation while Postgres was {what}", after - before, "", most=0),
        Figure(f"assignments that the replica ever had, Postgres {what}", rebalances, "", most=1),
        Figure(f"all answered after Postgres was {what}, the checker clean", caught_up - back, "s", CATCH_UP_SECONDS),
    ]


async def measure_killed(ground: Ground) -> Sequence[Figure]:
    """With a server that is not there."""
    return await without(ground, "killed", killed)


async def measure_stalled(ground: Ground) -> Sequence[Figure]:
    """With a server that takes connections and says nothing."""
    return await without(ground, "stalled", stalled)
