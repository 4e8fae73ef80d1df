"""Closing aiokafka's clients, whatever state the brokers are in."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Protocol

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

STOP_SECONDS = 5.0
ABANDON_SECONDS = 1.0


class Stoppable(Protocol):
    """A consumer or producer."""

    def stop(self) -> Awaitable[None]:
        """Close the connections."""


async def stop_within(client: Stoppable, seconds: float = STOP_SECONDS) -> None:
    """Stop a client; never waits long, never raises but when the caller itself is cancelled.

    In a task of its own: with the brokers away, aiokafka's consumer lets the cancellation of its own fetches out of
    `stop`, which would end the caller as if somebody had cancelled it. Then, and when it takes too long, the client is
    left half closed, and what it runs besides would run on, heartbeats included: that is ended here.
    """

    async def stop() -> None:
        await client.stop()

    task = asyncio.create_task(stop())
    left: set[asyncio.Task[Any]] = set()
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done() or task.cancelled() or task.exception() is not None:
            left = {task, *tasks_of(client)}
            for each in left:
                each.cancel()
    if left:
        await ended(left)
        connections = [part for part in vars(client).values() if isinstance(part, AIOKafkaClient)]
        await ended({asyncio.create_task(each.close()) for each in connections})


async def ended(tasks: set[asyncio.Task[Any]]) -> None:
    """Wait a little for the end of tasks, whatever it is."""
    done, _ = await asyncio.wait(tasks, timeout=ABANDON_SECONDS)
    for each in done:
        if not each.cancelled():
            each.exception()  # looked at, so that nobody complains that it was not


def tasks_of(client: Stoppable) -> set[asyncio.Task[Any]]:
    """What aiokafka runs for a client: its tasks are methods of the client's parts, and nothing lists them."""
    parts = {id(part) for part in vars(client).values() if type(part).__module__.startswith("aiokafka.")}
    frames = ((task, getattr(task.get_coro(), "cr_frame", None)) for task in asyncio.all_tasks())
    return {task for task, frame in frames if frame is not None and id(frame.f_locals.get("self")) in parts}


def unawaited(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's exception handler: silent on futures of aiokafka's own that nobody can wait for.

    A fenced or stopped producer fails them all, and what they carry is raised by its calls as well.
    """
    if not isinstance(context.get("exception"), KafkaError) or "never retrieved" not in context["message"]:
        loop.default_exception_handler(context)
