"""Closing aiokafka's clients, whatever state the brokers are in."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Protocol

from aiokafka.errors import KafkaError

STOP_SECONDS = 5.0


class Stoppable(Protocol):
    """A consumer or producer."""

    def stop(self) -> Awaitable[None]:
        """Close the connections."""


async def stop_within(client: Stoppable, seconds: float = STOP_SECONDS) -> None:
    """Stop a client; never waits long, never raises but when the caller itself is cancelled.

    In a task of its own: with the brokers away, aiokafka's consumer lets the cancellation of its own fetches out of
    `stop`, which would end the caller as if somebody had cancelled it.
    """

    async def stop() -> None:
        await client.stop()

    task = asyncio.create_task(stop())
    await asyncio.wait({task}, timeout=seconds)
    task.cancel()
    if task.done() and not task.cancelled():
        task.exception()  # looked at, so that nobody complains that it was not


def unawaited(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's exception handler: silent on futures of aiokafka's own that nobody can wait for.

    A fenced or stopped producer fails them all, and what they carry is raised by its calls as well.
    """
    if not isinstance(context.get("exception"), KafkaError) or "never retrieved" not in context["message"]:
        loop.default_exception_handler(context)
