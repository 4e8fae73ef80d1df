"""`/metrics`, `/livez` and `/readyz` on one port, and the server of every port."""

import asyncio
import errno
import socket
from collections.abc import Callable, Mapping

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from penstock.network import AddressUnusable, address, cause_of
from penstock.variables import variable

BACKLOG = 2048
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
        section: of the settings that `host` and `port` come from.
    """

    def __init__(
        self, host: str, port: int, app: Starlette, connections_max: int | None = None, *, section: str = "http"
    ) -> None:
        self.section = section
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
            AddressUnusable: nobody can listen there.
        """
        listening = listen(self.config.host, self.config.port, self.section)
        port: int = listening.getsockname()[1]
        self.config.load()
        self.server.lifespan = self.config.lifespan_class(self.config)
        await self.server.startup(sockets=[listening])
        self.task = asyncio.create_task(self.server.main_loop())
        return port

    async def stop(self) -> None:
        """Stop listening."""
        self.server.should_exit = True
        if self.task is not None:
            await self.task
            await self.server.shutdown()


def listen(host: str, port: int, section: str) -> socket.socket:
    """A socket that listens.

    Args:
        host: a name or an address of this machine.
        port: 0 takes a free one.
        section: of the settings that both come from.

    Raises:
        AddressUnusable: it names the address and the setting to change.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        fix = listen_fix(error, *(variable((section, name)) for name in ("host", "port")))
        raise AddressUnusable(f"cannot listen on {address(host, port)}: {cause_of(error).text}", fix) from error
    return listening


def listen_fix(error: OSError, host: str, port: str) -> str:
    """What an operator changes when an address cannot be listened on; the names are those of its settings."""
    if error.errno == errno.EADDRINUSE:
        return f"Stop the process that uses the port, or set {port} to another one"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"Ports below 1024 need a privilege: set {port} to a higher one"
    return f"Set {host} to an address of this machine"
