"""The lifecycle that the embedded servers share."""

import asyncio
import contextlib
import secrets
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

START_SECONDS = 90  # a loaded machine with two cores takes 15
STOP_SECONDS = 20
PROBE_INTERVAL_SECONDS = 0.05
PORTS = range(
    20_000, 32_000
)  # below every system's ephemeral ports: a client that reconnects can't take the port itself

# Reads a pipe whose other end dies with the parent, however that dies, and then ends the server.
WATCHDOG = 'read -r _; kill -s "$1" "$2"'


class ServerError(RuntimeError):
    """A server did not start; the message ends with the last lines of its log."""


def free_port() -> int:
    """A loopback port that nothing listens on."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def run(command: Sequence[str], **options: Any) -> str:
    """Run a command to its end; returns all it said.

    Raises:
        ServerError: it failed.
    """
    done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603 - every command is put together in this package
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        start_new_session=True,  # Ctrl-C is the parent's to handle
        **options,
    )
    if done.returncode:
        raise ServerError(f"{Path(command[0]).name} ended with code {done.returncode}:\n{done.stdout}")
    return done.stdout


class EmbeddedServer(ABC):
    """One server process with its data in a folder of its own.

    `start`, `stop`, `kill` and `restart` may each be called in any state. The port and the data stay the same over all
    of them, and the data also for a later object on the same folder. The process ends with its parent, also when that
    is killed.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    orphan_signal: ClassVar[signal.Signals]

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.log = self.folder / "server.log"
        self.log_start_bytes = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.watchdog: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Bring the folder into a state the server can start from; blocking, and run before every start."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The command line of the server."""

    @abstractmethod
    async def answers(self) -> bool:
        """Whether the server answers a client's request."""

    def process_options(self) -> dict[str, Any]:
        """More options for the process, as `subprocess.Popen` takes them."""
        return {}

    def may_launch_again(self) -> bool:
        """Whether a server that ended while it was starting did so for a cause that passes."""
        return False

    @property
    def is_running(self) -> bool:
        """Whether the process is alive."""
        return self.process is not None and self.process.poll() is None

    async def start(self) -> None:
        """Start the server and return once it answers.

        Raises:
            ServerError: it ended, or did not answer within START_SECONDS.
        """
        if self.is_running:
            return
        await self.kill()  # buries one that ended by itself
        await asyncio.to_thread(self.prepare)
        self.launch()
        try:
            async with asyncio.timeout(START_SECONDS):
                await self.readiness()
        except BaseException as error:
            await self.kill()
            if isinstance(error, TimeoutError):
                raise ServerError(f"{self.name} gave no answer in {START_SECONDS} s:\n{self.log_tail()}") from error
            raise

    async def stop(self) -> None:
        """Ask the server to end, and kill it if it has not within STOP_SECONDS."""
        try:
            if self.process is not None:
                self.process.send_signal(self.stop_signal)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(self.process.wait, STOP_SECONDS)
        finally:
            await self.kill()

    async def kill(self) -> None:
        """End the server with SIGKILL, as a crash would."""
        for process in (self.process, self.watchdog):
            if process is not None:
                process.kill()
                process.wait()
        if self.watchdog is not None and self.watchdog.stdin is not None:
            self.watchdog.stdin.close()
        self.process = self.watchdog = None

    async def restart(self) -> None:
        """Stop the server, if it runs, and start it again."""
        await self.stop()
        await self.start()

    def launch(self) -> None:
        """Start the process and the watchdog that ends it when this process is gone."""
        with self.log.open("ab") as log:
            self.log_start_bytes = log.tell()
            self.process = subprocess.Popen(  # noqa: S603 - every command is put together in this package
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is the parent's to handle
                **self.process_options(),
            )
        self.watchdog = subprocess.Popen(  # noqa: S603 - a constant script and our own process id
            ["/bin/sh", "-c", WATCHDOG, "watchdog", self.orphan_signal.name.removeprefix("SIG"), str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    async def readiness(self) -> None:
        """Return once the server answers; raise ServerError when it ends before."""
        while not await self.answers():
            if not self.is_running:
                if not self.may_launch_again():
                    raise ServerError(f"{self.name} ended while it was starting:\n{self.log_tail()}")
                await self.kill()
                self.launch()
            await asyncio.sleep(PROBE_INTERVAL_SECONDS)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines that the server logged since it was launched."""
        with self.log.open("rb") as log:
            log.seek(self.log_start_bytes)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
