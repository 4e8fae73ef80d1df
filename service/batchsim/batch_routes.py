"""The Batches API."""

import time
from asyncio import to_thread
from functools import partial
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from batchsim.batch_params import BatchParams, parse_batch_params
from batchsim.chance import share
from batchsim.endpoint import before_effect
from batchsim.errors import ApiError
from batchsim.faults import Faults, copies_made, list_after, list_horizon, list_limit, listed_status, shows_first_page
from batchsim.lifecycle import Lifecycle
from batchsim.query import integer_parameter
from batchsim.rate import HOUR_SECONDS, take
from batchsim.records import BatchRecord, Status, batch_object, stale_batch_object
from batchsim.rules import Outcome
from batchsim.settings import Delays, Settings
from batchsim.store import Store
from batchsim.validation import decode_line

LIST_LIMIT_DEFAULT = 20
LIST_LIMIT_MAX = 100
FIRST_LINE_BYTES_MAX = 16_000_000


class BatchRoutes:
    """Handlers of the Batches API."""

    def __init__(self, store: Store, lifecycle: Lifecycle, faults: Faults, settings: Settings) -> None:
        self.store = store
        self.lifecycle = lifecycle
        self.faults = faults
        self.settings = settings

    async def create(self, request: Request) -> Response:
        """`POST /v1/batches`."""
        params = parse_batch_params(await request.body())
        used = self.store.batches_created_since(time.time() - HOUR_SECONDS)
        rate = take("batch creation", "batches", self.settings.limits.creates_per_hour, used, HOUR_SECONDS)
        is_known = self.store.file(params.input_file_id) is not None
        model = await to_thread(first_model, self.store.folder.file(params.input_file_id)) if is_known else None
        outcomes = [
            await self.faults.for_batch(params.endpoint, model or "", params.metadata or {})
            for _ in range(copies_made(request))
        ]
        await before_effect(request)
        for outcome in outcomes:
            batch = await self.store.add_batch(partial(self.new_batch, params, model, outcome))
            self.lifecycle.start(batch)
        return JSONResponse(batch_object(batch, time.time()), headers=rate)

    def new_batch(self, params: BatchParams, model: str | None, outcome: Outcome, batch_id: str) -> BatchRecord:
        """The record of a new batch; its delays are drawn here, once."""
        now = time.time()
        return BatchRecord(
            id=batch_id,
            endpoint=params.endpoint,
            input_file_id=params.input_file_id,
            completion_window=params.completion_window,
            metadata=params.metadata,
            output_expires_after_seconds=params.output_expires_after_seconds,
            created_at=now,
            expires_at=now + self.settings.window_seconds,
            delays=draw_delays(self.settings, self.store.seed, batch_id, outcome),
            outcome=outcome,
            model=model,
        )

    async def retrieve(self, request: Request) -> Response:
        """`GET /v1/batches/{batch_id}`."""
        return JSONResponse(batch_object(self.known(request), time.time()))

    async def list(self, request: Request) -> Response:
        """`GET /v1/batches`."""
        limit = integer_parameter(request, "limit", LIST_LIMIT_DEFAULT, 1, list_limit(request, LIST_LIMIT_MAX))
        batches = self.store.batches(limit=limit + 1, after=list_after(request), created_before=list_horizon(request))
        page, now = batches[:limit], time.time()
        status = listed_status(request)
        shown = [stale_batch_object(each, now, status) if status else batch_object(each, now) for each in page]
        return JSONResponse(
            {
                "object": "list",
                "data": shown,
                "first_id": page[0].id if page else None,
                "last_id": page[-1].id if page else None,
                "has_more": len(batches) > limit or shows_first_page(request),
            }
        )

    async def cancel(self, request: Request) -> Response:
        """`POST /v1/batches/{batch_id}/cancel`."""
        self.known(request)
        await before_effect(request)
        while True:
            batch = self.known(request)
            if batch.is_terminal:
                raise ApiError(409, f"Cannot cancel a batch with status '{batch.status}'.")
            cancelled = batch if batch.status is Status.CANCELLING else await self.lifecycle.cancel(batch)
            if cancelled is not None:
                return JSONResponse(batch_object(cancelled, time.time()))

    def known(self, request: Request) -> BatchRecord:
        """The batch that the path names."""
        batch_id: str = request.path_params["batch_id"]
        batch = self.store.batch(batch_id)
        if batch is None:
            raise ApiError(404, f"No batch found with id '{batch_id}'.")
        return batch


def first_model(path: Path) -> str | None:
    """The model of a file's first line, which fault rules may ask for before the file is validated."""
    try:
        with path.open("rb") as lines:
            body = msgspec.json.decode(decode_line(lines.readline(FIRST_LINE_BYTES_MAX)).body)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None
    model = body.get("model") if isinstance(body, dict) else None
    return model if isinstance(model, str) else None


def draw_delays(settings: Settings, seed: str, batch_id: str, outcome: Outcome) -> Delays:
    """The configured delays, each stretched or shortened by chance within the jitter; an outcome's own are exact."""

    def jittered(name: str, seconds: float) -> float:
        swing = 2 * share(seed, batch_id, "delay", name) - 1
        return max(0.0, seconds * (1 + settings.jitter * swing))

    configured = msgspec.structs.asdict(settings.delays)
    drawn = Delays(**{name: jittered(name, seconds) for name, seconds in configured.items()})
    return msgspec.structs.replace(drawn, **outcome.seconds)
