"""`/metrics`, `/livez` and `/readyz` on one port, and the server of every port."""

import asyncio
from collections.abc import Callable, Mapping

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

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
    """uvicorn inside the service's own loop; signals are the service's business, not uvicorn's.

    Args:
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        app: what is served.
        connections_max: more at a time are answered 503.
    """

    def __init__(self, host: str, port: int, app: Starlette, connections_max: int | None = None) -> None:
        self.config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            lifespan="off",
            limit_concurrency=connections_max,
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
