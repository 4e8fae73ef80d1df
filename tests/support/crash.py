"""What crash tests share: what to wait for when a replica is dead or paused, and the verdict at the end."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiokafka.protocol.group import LeaveGroupRequest

from tests.support.bridge import Bridge
from tests.support.request import chat
from tests.support.stack import admin_client
from tests.support.waiting import NeverCame

PATIENCE_SECONDS = 45.0
"""What has not come by now will not come; only a run in which something is wrong waits so long."""
POLL_SECONDS = 0.05
REST = "seal,submit,poll,collect,publish,janitor"
"""All stages but intake, for a replica that need not wait for its place in the group."""
OPEN = """
    SELECT (SELECT count(*) FROM chunk WHERE taken < requests)
        + (SELECT count(*) FROM batch WHERE state NOT IN ('published', 'split'))
"""


def chats(count: int, name: str = "request", **options: Any) -> list[dict[str, Any]]:
    """So many chat requests."""
    return [chat(f"{name}-{number}", **options) for number in range(count)]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition.

    Raises:
        NeverCame: it did not come true.
    """
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not await condition():
        if time.monotonic() > ends_at:
            raise NeverCame(f"never {condition.__name__.replace('_', ' ')}")
        await asyncio.sleep(POLL_SECONDS)


async def answered(bridge: Bridge, count: int) -> bool:
    """Wait until so many results have come; whether they did."""

    async def come() -> bool:
        return len(bridge.reader.received[bridge.result_topic]) >= count

    with suppress(NeverCame):
        await until(come)
    return await come()


async def settled(bridge: Bridge, count: int, **limits: object) -> dict[str, Any]:
    """Wait until so many results have come and nothing is under way, then let the checker judge.

    What never comes is the checker's to say.
    """

    async def at_rest() -> bool:
        [(open_count,)] = await bridge.sql(OPEN)
        return not open_count

    if await answered(bridge, count):
        with suppress(NeverCame):
            await until(at_rest)
    return await bridge.check(**limits)


async def bury(bridge: Bridge) -> None:
    """Tell the group that its members are dead, so that nobody waits for their session to time out."""
    group = f"penstock-{bridge.deployment}"
    async with admin_client(bridge.kafka) as admin:
        coordinator = await admin.find_coordinator(group)
        [described] = await admin.describe_consumer_groups([group])
        [(_, _, _, _, _, members, *_)] = described.groups
        for member_id, *_ in members:
            await admin._client.send(coordinator, LeaveGroupRequest(group, member_id))  # noqa: SLF001 - no public way


def batches(bridge: Bridge) -> int:
    """Batches that the provider ever made."""
    return sum(each["event"] == "batch.created" for each in bridge.simulator.journal())


async def input_files(bridge: Bridge) -> int:
    """Batch input files that the provider holds."""
    async with bridge.simulator.client() as client:
        return len([file async for file in client.files.list(purpose="batch")])
