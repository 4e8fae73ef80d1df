"""`/metrics`, `/livez` and `/readyz` on one port."""

import asyncio
from collections.abc import Callable, Mapping

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from penstock.settings import HttpSettings

Health = Callable[[], Mapping[str, str]]
"""Problems by what has them; empty when all is well."""


def application(live: Health, ready: Health, degraded: Health) -> Starlette:
    """The ASGI application.

    Args:
        live: why the process should be restarted.
        ready: why it is not ready: not started yet, or draining.
        degraded: what is wrong outside, shown and no reason to take the pod away: a provider's outage is ready and
            degraded.
    """

    def answer(health: Health, name: str) -> Callable[[Request], Response]:
        def respond(_: Request) -> Response:
            problems = dict(health())
            body = {name: not problems, "problems": problems, "degraded": dict(degraded())}
            return JSONResponse(body, status_code=503 if problems else 200)

        return respond

    def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/livez", answer(live, "live")),
            Route("/readyz", answer(ready, "ready")),
            Route("/metrics", metrics),
        ]
    )


class HttpServer:
    """uvicorn inside the service's own loop; signals are the service's business, not uvicorn's."""

    def __init__(self, settings: HttpSettings, app: Starlette) -> None:
        self.config = uvicorn.Config(
            app, host=settings.host, port=settings.port, log_config=None, access_log=False, lifespan="off"
        )
        self.server = uvicorn.Server(self.config)
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen; returns the bound port.

        Raises:
            OSError: the address cannot be bound.
        """
        socket = self.config.bind_socket()
        port: int = socket.getsockname()[1]
        self.config.load()
        self.server.lifespan = self.config.lifespan_class(self.config)
        await self.server.startup(sockets=[socket])
        self.task = asyncio.create_task(self.server.main_loop())
        return port

    async def stop(self) -> None:
        """Stop listening."""
        self.server.should_exit = True
        if self.task is not None:
            await self.task
            await self.server.shutdown()
