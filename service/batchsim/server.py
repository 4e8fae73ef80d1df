"""Serving the simulator on a port, until a signal."""

import errno
import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from batchsim.app import build_app
from batchsim.folder import StateFolder
from batchsim.settings import Settings
from batchsim.store import Store

KEEP_ALIVE_SECONDS = 75
GRACE_SECONDS = 2
BACKLOG = 2048


class AddressUnusable(Exception):
    """The simulator cannot listen on its address; the text says why, and which option to change."""


class DroppableProtocol(H11Protocol):
    """HTTP whose requests can reach their connection, to drop it: it is in the request's state as `transport`."""

    def connection_made(self, transport: object) -> None:
        """Keep the transport for the requests of this connection."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.app_state = {**self.app_state, "transport": transport}


class PortFileServer(uvicorn.Server):
    """A server that tells its port in a file once it listens."""

    def __init__(self, config: uvicorn.Config, port_file: Path | None) -> None:
        super().__init__(config)
        self.port_file = port_file

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then write the file, whole or not at all."""
        await super().startup(sockets)
        if self.started and self.port_file is not None and sockets:
            written = self.port_file.with_name(f"{self.port_file.name}.{os.getpid()}")
            written.write_text(f"{sockets[0].getsockname()[1]}\n")
            written.replace(self.port_file)


def serve(settings: Settings, host: str, port: int, port_file: Path | None, scenario: Path | None) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        BlockingIOError: when another process holds the state folder.
        AddressUnusable: when nobody can listen on the address.
        OSError: when the state folder cannot be used.
    """
    with ExitStack() as stack:
        folder = StateFolder(settings.state)
        folder.open()
        stack.callback(folder.close)
        store = Store(folder, settings.seed, announces=settings.webhook_url is not None)
        stack.callback(store.close)
        listening = stack.enter_context(listen(host, port))
        config = uvicorn.Config(
            build_app(store, settings, scenario),
            http=DroppableProtocol,
            ws="none",
            loop="uvloop",
            lifespan="on",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        # uvicorn raises the signal anew when it has stopped: with this, the process then ends by itself, with status 0.
        signal.signal(signal.SIGTERM, lambda *_: None)
        print(f"batchsim listens on http://{host}:{listening.getsockname()[1]}/v1, seed {store.seed}", flush=True)  # noqa: T201  the program's one line
        PortFileServer(config, port_file).run([listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        AddressUnusable: it names the address and the option to change.
    """
    try:
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror)
        if error.errno == errno.EADDRINUSE:
            fix = "Stop the process that uses the port, or choose another one with --port"
        elif error.errno in {errno.EACCES, errno.EPERM}:
            fix = "Ports below 1024 need a privilege: choose a higher one with --port"
        else:
            fix = "Choose another address with --host"
        raise AddressUnusable(f"cannot listen on {host}:{port}: {why[:1].lower()}{why[1:]}. {fix}.") from error
