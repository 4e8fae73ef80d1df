"""Webhooks: each batch that ends is announced to a url, signed as Standard Webhooks has it, until the url says 2xx.

An event is kept from the commit of the batch's last status until it is delivered; after a kill what was not is sent
again, so a receiver can get it twice.
"""

import asyncio
import hmac
import logging
import time
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections import deque
from hashlib import sha256
from secrets import token_hex
from typing import Any, Self

import msgspec

from batchsim.chance import name
from batchsim.faults import Faults
from batchsim.posting import Unreachable, post
from batchsim.records import EndEvent
from batchsim.rules import WebhookFault
from batchsim.store import Store

PREFIX = "whsec_"
GIVE_UP_SECONDS = 72 * 3_600
RETRY_SECONDS = 1.0
RETRY_SECONDS_MAX = 3_600.0
KEPT = 1_000
USER_AGENT = "OpenAI/1.0 (batchsim)"

logger = logging.getLogger(__name__)


class Announcement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event to be sent at once, whatever became of the batch; `webhook_id` can be one that was used before."""

    batch_id: str
    type: str = "batch.completed"
    webhook_id: str | None = None
    webhook: WebhookFault = WebhookFault()


class Attempt(msgspec.Struct, frozen=True):
    """A webhook that was sent; `status` is what the receiver answered, None for no answer."""

    webhook_id: str
    type: str
    batch_id: str
    status: int | None


class Webhooks:
    """Sends the store's events to a url. Entered, it goes on with those of an earlier process; left, it stops at once.

    Args:
        store: keeps the events that are not delivered.
        faults: says what goes wrong with them.
        url: where they go; without one nothing is sent.
        secret: signs them, `whsec_` and base64.
    """

    def __init__(self, store: Store, faults: Faults, url: str | None, secret: str | None) -> None:
        self.store = store
        self.faults = faults
        self.url = url
        self.key = signing_key(secret) if secret else b""
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.attempts: deque[Attempt] = deque(maxlen=KEPT)

    async def __aenter__(self) -> Self:
        self.send_new()
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = list(self.tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def send_new(self) -> None:
        """Begin to send the events that are not being sent."""
        if self.url is None:
            return
        for event in self.store.events():
            if event.position not in self.tasks:
                task = asyncio.create_task(self.deliver(event), name=str(event.position))
                self.tasks[event.position] = task
                task.add_done_callback(self.forget)

    def forget(self, task: asyncio.Task[None]) -> None:
        """An event is delivered, or the simulator itself has failed on it."""
        del self.tasks[int(task.get_name())]
        if not task.cancelled() and task.exception() is not None:
            logger.error("an event is stuck by an error of the simulator", exc_info=task.exception())

    async def deliver(self, event: EndEvent) -> None:
        """Send an event until each of its copies is accepted."""
        if event.fault is None:
            event.fault = await self.faults.for_webhook(event)
            await self.store.save_event(event)
        webhook_id = "wh_" + name(self.store.seed, "webhook", event.position)
        body = event_body("evt_" + name(self.store.seed, "event", event.position), event)
        await asyncio.gather(*(self.insist(webhook_id, event, body, event.fault) for _ in range(event.fault.copies)))
        await self.store.delete_event(event.position)

    async def insist(self, webhook_id: str, event: EndEvent, body: bytes, fault: WebhookFault) -> None:
        """Send one copy until the receiver accepts it, or for three days."""
        await asyncio.sleep(max(0.0, event.created_at + fault.delay_seconds - time.time()))
        pause = RETRY_SECONDS
        while time.time() < event.created_at + GIVE_UP_SECONDS:
            status = await self.send(webhook_id, event.type, event.batch_id, body, fault)
            if status is not None and 200 <= status < 300:  # noqa: PLR2004 - HTTP's success
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_SECONDS_MAX)

    async def announce(self, announcement: Announcement) -> list[int | None]:
        """Send an event once, in as many copies as it says; returns what the receiver answered to each."""
        fault = announcement.webhook
        event = EndEvent(0, announcement.batch_id, announcement.type, time.time())
        webhook_id = announcement.webhook_id or "wh_" + token_hex(12)
        body = event_body("evt_" + token_hex(12), event)
        await asyncio.sleep(fault.delay_seconds)
        return [await self.send(webhook_id, event.type, event.batch_id, body, fault) for _ in range(fault.copies)]

    async def send(self, webhook_id: str, kind: str, batch_id: str, body: bytes, fault: WebhookFault) -> int | None:
        """Send a webhook once, as the fault has it; returns the status of the answer, None without one."""
        assert self.url is not None, "nothing is sent without a url"
        timestamp = str(int(time.time() - fault.age_seconds))
        sent = body + b" " * fault.padding_bytes
        headers = {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            "webhook-id": webhook_id,
            "webhook-timestamp": timestamp,
        }
        if fault.signature != "missing":
            key = self.key if fault.signature == "right" else b"forged"
            headers["webhook-signature"] = signature(key, webhook_id, timestamp, sent)
        status: int | None
        try:
            status = await post(self.url, headers, sent)
        except Unreachable:
            status = None
        self.attempts.append(Attempt(webhook_id, kind, batch_id, status))
        return status


def event_body(event_id: str, event: EndEvent) -> bytes:
    """The body of a webhook."""
    body: dict[str, Any] = {
        "id": event_id,
        "object": "event",
        "created_at": int(event.created_at),
        "type": event.type,
        "data": {"id": event.batch_id},
    }
    return msgspec.json.encode(body)


def signing_key(secret: str) -> bytes:
    """The key in a secret.

    Raises:
        ValueError: it is not `whsec_` and base64.
    """
    try:
        key = b64decode(secret.removeprefix(PREFIX), validate=True)
    except NotBase64:
        key = b""
    if not secret.startswith(PREFIX) or not key:
        raise ValueError("a webhook secret is whsec_ and base64")
    return key


def signature(key: bytes, webhook_id: str, timestamp: str, body: bytes) -> str:
    """The value of `webhook-signature`."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + b64encode(hmac.new(key, signed, sha256).digest()).decode()
