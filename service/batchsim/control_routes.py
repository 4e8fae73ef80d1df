"""The control endpoint: faults on demand, and what the simulator knows. It takes no API key."""

import os
import time

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from batchsim.faults import Faults
from batchsim.rulebook import parse_rules
from batchsim.store import Store
from batchsim.webhooks import Announcement, Webhooks


class ControlRoutes:
    """Handlers of the control endpoint."""

    def __init__(self, store: Store, faults: Faults, webhooks: Webhooks) -> None:
        self.store = store
        self.faults = faults
        self.webhooks = webhooks

    async def put_faults(self, request: Request) -> Response:
        """`PUT /control/faults`: replace all rules."""
        try:
            rules = parse_rules(await request.body())
        except (msgspec.MsgspecError, RecursionError) as error:
            return JSONResponse({"error": str(error)}, 422)
        await self.faults.replace(rules)
        return await self.get_faults(request)

    async def get_faults(self, _: Request) -> Response:
        """`GET /control/faults`: the rules with their counts."""
        return JSONResponse(msgspec.to_builtins(self.faults.rulebook.rules))

    async def get_state(self, _: Request) -> Response:
        """`GET /control/state`: the process and its batches."""
        return JSONResponse(
            {
                "pid": os.getpid(),
                "cpu_seconds": time.process_time(),
                "seed": self.store.seed,
                "batches": self.store.statuses(),
                "enqueued_tokens": self.store.enqueued_tokens(),
                "events": len(self.store.events()),
            }
        )

    async def get_journal(self, _: Request) -> Response:
        """`GET /control/journal`: the journal so far, as JSON lines."""
        return FileResponse(self.store.folder.journal, media_type="application/jsonl")

    async def get_webhooks(self, _: Request) -> Response:
        """`GET /control/webhooks`: the last webhooks that were sent, oldest first."""
        return JSONResponse(msgspec.to_builtins(list(self.webhooks.attempts)))

    async def post_webhook(self, request: Request) -> Response:
        """`POST /control/webhooks`: send an event now, and tell what the receiver answered to each copy."""
        try:
            announcement = msgspec.json.decode(await request.body(), type=Announcement)
        except msgspec.MsgspecError as error:
            return JSONResponse({"error": str(error)}, 422)
        if self.webhooks.url is None:
            return JSONResponse({"error": "there is no --webhook-url"}, 409)
        return JSONResponse({"statuses": await self.webhooks.announce(announcement)})
