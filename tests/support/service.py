"""The real service as a subprocess, for tests."""

import asyncio
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import psutil
from prometheus_client.parser import text_string_to_metric_families

from penstock.embedded.server import free_port
from tests.support.forked import Forked
from tests.support.simulator import SERVICE
from tests.support.waiting import NeverCame

START_SECONDS = 60.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.02
HTTP_SECONDS = 20.0


class Service:
    """`python -m penstock run` on a free port of 127.0.0.1.

    Entering waits until it is ready, leaving ends it by SIGTERM, and by SIGKILL if it does not obey.

    Args:
        log: takes all it prints.
        environment: its settings, `PENSTOCK_…`; none of this process's own get through.
        stages: what `--stages` takes; all by default.
        failpoints: what PENSTOCK_FAILPOINTS takes.
        defences_off: defences that it runs without, see `tests.defences`.
        altered: what is altered in its process, as `tests.support.altered` takes it.
        fresh: start it as an operator does, not forked; for those who measure it.
        source: the folder of the packages, for another version than this one.
    """

    def __init__(
        self,
        log: Path,
        environment: Mapping[str, str],
        *,
        stages: str = "",
        failpoints: str = "",
        defences_off: Sequence[str] = (),
        altered: Sequence[str] = (),
        fresh: bool = False,
        source: Path = SERVICE,
    ) -> None:
        self.log = log
        self.port = free_port()
        self.stages = stages
        self.environment = {**environment, "PENSTOCK_HTTP_HOST": "127.0.0.1", "PENSTOCK_HTTP_PORT": str(self.port)}
        if failpoints:
            self.environment["PENSTOCK_FAILPOINTS"] = failpoints
        self.program = ["penstock"]
        if defences_off:
            self.program = ["tests.defences", *defences_off, "--"]
        if altered:
            self.program = ["tests.support.altered", *altered, "--", *self.program]
        if defences_off or altered:
            self.environment["PYTHONPATH"] = f"{SERVICE}{os.pathsep}{SERVICE.parent}"
        if source != SERVICE:
            self.environment["PYTHONPATH"] = str(source)
        # What is altered has to be so before anything is imported.
        self.fresh = fresh or bool(altered) or source != SERVICE
        self.process: asyncio.subprocess.Process | Forked | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        try:
            await self.ready()
        except BaseException:
            await self.end(signal.SIGKILL)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.stop()
        finally:
            await self.kill()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process is not None, "the service was started"
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, below 0 by which signal; None while it runs."""
        return self.process.returncode if self.process else None

    async def start(self) -> None:
        """Start it, without waiting."""
        arguments = [*self.program, "run", *(["--stages", self.stages] if self.stages else [])]
        if self.fresh:
            self.process = await run_logged([sys.executable, "-m", *arguments], self.log, self.environment)
        else:
            self.process = Forked(arguments, self.log, own_environment(self.environment))

    async def ready(self) -> None:
        """Wait until it is ready.

        Raises:
            RuntimeError: it ended instead; the message is its log.
            TimeoutError: it took too long.
        """
        async with asyncio.timeout(START_SECONDS):
            while not await asyncio.to_thread(self.is_ready):
                if self.returncode is not None:
                    raise RuntimeError(f"the service ended with {self.returncode}:\n{self.text()}")
                await asyncio.sleep(POLL_SECONDS)

    def is_ready(self) -> bool:
        """Whether `/readyz` says so, now."""
        try:
            self.get("/readyz")
        except OSError:  # not listening, not answering, or answering 503
            return False
        return True

    def get(self, path: str) -> str:
        """A page of its HTTP port, blocking.

        Raises:
            OSError: it does not answer, or not with 200.
        """
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=HTTP_SECONDS) as response:
            content: bytes = response.read()
        return content.decode()

    async def stop(self) -> int:
        """End it by SIGTERM and wait; returns its exit status. Does nothing if it has ended."""
        self.send(signal.SIGTERM)
        self.wake()
        return await self.exited()

    async def kill(self) -> None:
        """End it by SIGKILL and wait."""
        await self.end(signal.SIGKILL)

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end."""
        self.send(number)
        return await self.exited()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        assert self.process is not None, "the service was started"
        if self.process.returncode is None:
            self.process.send_signal(number)

    async def paused(self, timeout_seconds: float = START_SECONDS) -> None:
        """Wait until a failpoint has stopped it.

        Raises:
            TimeoutError: none has.
        """
        async with asyncio.timeout(timeout_seconds):
            while psutil.Process(self.pid).status() != psutil.STATUS_STOPPED:
                await asyncio.sleep(POLL_SECONDS)

    def wake(self) -> None:
        """Let it go on, if it is paused."""
        self.send(signal.SIGCONT)

    async def exited(self, timeout_seconds: float = STOP_SECONDS) -> int:
        """Wait for it to end by itself; returns its exit status.

        Raises:
            TimeoutError: it still runs.
        """
        assert self.process is not None, "the service was started"
        async with asyncio.timeout(timeout_seconds):
            return await self.process.wait()

    async def metric(self, name: str, /, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        text = await asyncio.to_thread(self.get, "/metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def reached(self, name: str, least: float, /, timeout_seconds: float = START_SECONDS, **labels: str) -> None:
        """Wait until a metric's sum is so high.

        Raises:
            NeverCame: it is not.
        """
        ends_at = time.monotonic() + timeout_seconds
        while (sum_ := await self.metric(name, **labels)) < least:
            if time.monotonic() > ends_at:
                raise NeverCame(f"{name} was {sum_:g}, not {least:g}")
            await asyncio.sleep(POLL_SECONDS)

    async def fell_to(self, name: str, most: float, timeout_seconds: float = START_SECONDS, **labels: str) -> None:
        """Wait until a metric's sum is so low.

        Raises:
            NeverCame: it is not.
        """
        ends_at = time.monotonic() + timeout_seconds
        while (sum_ := await self.metric(name, **labels)) > most:
            if time.monotonic() > ends_at:
                raise NeverCame(f"{name} was {sum_:g}, not {most:g}")
            await asyncio.sleep(POLL_SECONDS)

    def text(self) -> str:
        """All it has printed."""
        return self.log.read_text() if self.log.exists() else ""

    def logs(self, event: str | None = None) -> list[dict[str, Any]]:
        """The events it has logged, or those of one name."""
        lines = (line for line in self.text().split("\n") if line.startswith("{") and line.endswith("}"))
        events = map(json.loads, lines)
        return [each for each in events if event in (None, each["event"])]

    async def logged(self, event: str, timeout_seconds: float = START_SECONDS) -> dict[str, Any]:
        """Wait until it has logged an event of this name; returns the first.

        Raises:
            RuntimeError: it ended without.
            NeverCame: it took too long.
        """
        ends_at = time.monotonic() + timeout_seconds
        while True:
            ended = self.returncode is not None
            if found := self.logs(event):
                return found[0]
            if ended:
                raise RuntimeError(f"the service ended with {self.returncode} and without {event}:\n{self.text()}")
            if time.monotonic() > ends_at:
                raise NeverCame(f"no {event} was logged")
            await asyncio.sleep(POLL_SECONDS)


async def run_logged(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    """Start a command with this process's environment, all PENSTOCK_ variables replaced, and its words in a file."""
    with log.open("ab") as file:
        return await asyncio.create_subprocess_exec(
            *command, stdout=file, stderr=file, env=own_environment(environment)
        )


def own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, with all PENSTOCK_ variables replaced by these."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return {**own, "PYTHONPATH": str(SERVICE), **environment}


@asynccontextmanager
async def started(service: Service) -> AsyncIterator[Service]:
    """A replica that a failpoint may pause before it is ever ready."""
    await service.start()
    try:
        yield service
        await service.stop()
    finally:
        await service.kill()
