"""The receiver of the provider's webhooks: `POST /webhooks`, or `/webhooks/ACCOUNT`, on a port of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.core.batch import Hint
from penstock.core.errors import PenstockError, WebhookRefused
from penstock.telemetry import metrics

log = structlog.get_logger()

PATH = "/webhooks"
BODY_BYTES_MAX = 64 * 1024
"""An event of a batch has less than 1 KiB."""
RECEIVE_SECONDS = 5.0
STORE_SECONDS = 3.0
"""The provider wants an answer within seconds, and sends again what has none."""

Read = Callable[[bytes, Mapping[str, str]], Hint | None]
Note = Callable[[Hint], Awaitable[bool]]


class Receiver(NamedTuple):
    """What takes one account's webhooks.

    Args:
        read: proves a webhook and tells what it hints at, None for nothing; raises `WebhookRefused`.
        note: keeps the hint; False when the webhook came before.
    """

    read: Read
    note: Note


def webhook_application(receivers: Mapping[str, Receiver]) -> Starlette:
    """The ASGI application.

    Args:
        receivers: by path.
    """

    def route(path: str, receiver: Receiver) -> Route:
        async def receive(request: Request) -> Response:
            status, outcome = await take(request, *receiver)
            metrics.webhooks.labels(outcome).inc()
            return Response(status_code=status)

        return Route(path, receive, methods=["POST"])

    return Starlette(routes=[route(path, each) for path, each in receivers.items()])


async def take(request: Request, read: Read, note: Note) -> tuple[int, str]:
    """The status of the answer, and what became of the webhook. Whatever goes wrong here, polling finds the batch."""
    try:
        async with asyncio.timeout(RECEIVE_SECONDS):
            body = await bounded_body(request)
    except (TimeoutError, ClientDisconnect):
        return 408, "broken"
    if body is None:
        return 413, "too_large"
    try:
        hint = read(body, request.headers)
        if hint is None:
            return 204, "ignored"
        async with asyncio.timeout(STORE_SECONDS):
            return 204, "accepted" if await note(hint) else "repeated"
    except WebhookRefused as refused:
        return 400, refused.outcome
    except Exception as error:  # noqa: BLE001 - a secret that cannot be read, a database that is away: it comes again
        what = str(error) if isinstance(error, PenstockError) else type(error).__name__
        log.warning("webhook.lost", error=what)
        return 503, "lost"


async def bounded_body(request: Request) -> bytes | None:
    """The body; None when it is too large: then it is read and forgotten, so that the sender reads the answer."""
    body, size = bytearray(), 0
    async for block in request.stream():
        size += len(block)
        if size <= BODY_BYTES_MAX:
            body += block
    return bytes(body) if size <= BODY_BYTES_MAX else None
