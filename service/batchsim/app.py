"""The simulator as an ASGI application: where its parts are put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hmac import compare_digest
from pathlib import Path
from secrets import token_hex

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchsim.batch_routes import BatchRoutes
from batchsim.control_routes import ControlRoutes
from batchsim.endpoint import Endpoint, Handler, drain
from batchsim.errors import error_body
from batchsim.faults import Faults, api_key
from batchsim.file_routes import FileRoutes
from batchsim.lifecycle import Lifecycle
from batchsim.settings import Settings
from batchsim.store import Store
from batchsim.webhooks import Webhooks


def build_app(store: Store, settings: Settings, scenario: Path | None) -> ASGIApp:
    """The application over an open store. Batches run while its lifespan lasts."""
    faults = Faults(store)
    webhooks = Webhooks(store, faults, settings.webhook_url, settings.webhook_secret)
    lifecycle = Lifecycle(store, settings, webhooks.send_new)
    files = FileRoutes(store, settings.limits)
    batches = BatchRoutes(store, lifecycle, faults, settings)
    control = ControlRoutes(store, faults, webhooks)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if scenario is not None:
            await faults.load_scenario(scenario)
        async with webhooks, lifecycle:
            yield

    def operation(name: str, method: str, path: str, handler: Handler) -> Route:
        return Route(path, Endpoint(name, handler, faults), methods=[method])

    app = Starlette(
        routes=[
            operation("files.create", "POST", "/v1/files", files.create),
            operation("files.list", "GET", "/v1/files", files.list),
            operation("files.content", "GET", "/v1/files/{file_id}/content", files.content),
            operation("files.retrieve", "GET", "/v1/files/{file_id}", files.retrieve),
            operation("files.delete", "DELETE", "/v1/files/{file_id}", files.delete),
            operation("batches.create", "POST", "/v1/batches", batches.create),
            operation("batches.list", "GET", "/v1/batches", batches.list),
            operation("batches.retrieve", "GET", "/v1/batches/{batch_id}", batches.retrieve),
            operation("batches.cancel", "POST", "/v1/batches/{batch_id}/cancel", batches.cancel),
            Route("/control/faults", control.get_faults, methods=["GET"]),
            Route("/control/faults", control.put_faults, methods=["PUT"]),
            Route("/control/state", control.get_state, methods=["GET"]),
            Route("/control/journal", control.get_journal, methods=["GET"]),
            Route("/control/webhooks", control.get_webhooks, methods=["GET"]),
            Route("/control/webhooks", control.post_webhook, methods=["POST"]),
        ],
        exception_handlers={404: invalid_url, 405: invalid_url},
        lifespan=lifespan,
    )
    return Gate(app, settings.api_key)


async def invalid_url(request: Request, error: Exception) -> Response:
    """The answer to a call of nothing that the API has."""
    assert isinstance(error, HTTPException), "registered for HTTP statuses alone"
    message = f"Invalid URL ({request.method} {request.url.path})"
    return JSONResponse(error_body(message, "invalid_request_error", None, None), error.status_code)


class Gate:
    """Checks the API key, and gives every answer a request id."""

    def __init__(self, app: ASGIApp, api_key: str | None) -> None:
        self.app = app
        self.api_key = api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a call through, or refuse it with 401."""

        async def identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = "req_" + token_hex(16)
            await send(message)

        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif self.api_key is None or not scope["path"].startswith("/v1/"):
            await self.app(scope, receive, identified)
        else:
            key = api_key(HTTPConnection(scope))
            if compare_digest(key.encode(), self.api_key.encode()):
                await self.app(scope, receive, identified)
            else:
                await drain(Request(scope, receive))
                await unauthorized(key)(scope, receive, identified)


def unauthorized(key: str) -> Response:
    """The answer to a missing or wrong API key; of the key only the ends are repeated."""
    message = "You didn't provide an API key. Provide it in an Authorization header using Bearer auth."
    if key:
        message = f"Incorrect API key provided: {key[:2]}***{key[-2:]}."
    code = "invalid_api_key"
    return JSONResponse(error_body(message, "invalid_request_error", None, code), 401)
