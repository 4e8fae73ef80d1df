"""The simulator and the service, each as a process of its own that ends with this one, however this one ends."""

import asyncio
import http.client
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.demo.storm import Storm
from penstock.embedded.server import EmbeddedServer, free_port

OK = 200
HTTP_SECONDS = 5.0
DELAYS = {"validating": 1, "in-progress": 4, "finalizing": 1}
"""Seconds that a batch stays in each status: enough to be seen."""
JITTER = 0.5
SCENARIO = "storm.json"


class HttpProcess(EmbeddedServer):
    """A Python module that serves HTTP on a loopback port."""

    stop_signal = signal.SIGTERM
    orphan_signal = signal.SIGKILL
    ready_path: str

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    async def answers(self) -> bool:
        """Whether it says that it is ready."""
        return await asyncio.to_thread(self.is_ready)

    def is_ready(self) -> bool:
        """The same, blocking."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HTTP_SECONDS)
        try:
            connection.request("GET", self.ready_path)
            return connection.getresponse().status == OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module, whatever lies in the working folder."""
    return [sys.executable, "-P", "-m", name, *arguments]


class SimulatorProcess(HttpProcess):
    """The Batch API simulator.

    Args:
        folder: takes its state.
        storm: the faults that it makes, if any.
    """

    name = "The simulator"
    ready_path = "/control/state"

    def __init__(self, folder: Path, storm: Storm | None = None) -> None:
        super().__init__(folder)
        self.storm = storm

    def prepare(self) -> None:
        """Write the storm down where the simulator reads it."""
        super().prepare()
        if self.storm:
            (self.folder / SCENARIO).write_text(json.dumps(self.storm.rules))

    @property
    def base_url(self) -> str:
        """What the service takes as the provider."""
        return f"{self.url}/v1"

    def command(self) -> Sequence[str]:
        """With delays that a person can follow."""
        delays = [text for status, seconds in DELAYS.items() for text in (f"--{status}-seconds", str(seconds))]
        place = ["--state", str(self.folder / "state"), "--port", str(self.port)]
        storm = ["--scenario", str(self.folder / SCENARIO), "--seed", self.storm.seed] if self.storm else []
        return module("batchsim", *place, *delays, "--jitter", str(JITTER), *storm)

    async def met(self) -> dict[str, int]:
        """How often each fault of the storm has struck, by name."""
        return await asyncio.to_thread(self.read_met) if self.storm else {}

    def read_met(self) -> dict[str, int]:
        """The same, blocking."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HTTP_SECONDS)
        try:
            connection.request("GET", "/control/faults")
            counted = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        names = self.storm.names if self.storm else ()
        return {name: each["fired"] for name, each in zip(names, counted, strict=True)}


class ServiceProcess(HttpProcess):
    """The service itself.

    Args:
        folder: takes its log.
        environment: all its settings but the port.
    """

    name = "The service"
    ready_path = "/readyz"

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(folder)
        own = {"PENSTOCK_HTTP_HOST": "127.0.0.1", "PENSTOCK_HTTP_PORT": str(self.port)}
        self.environment = {**environment, **own}

    def command(self) -> Sequence[str]:
        """As in production."""
        return module("penstock", "run")

    def process_options(self) -> dict[str, Any]:
        """Its settings."""
        return {"env": self.environment}

    def alerts(self, expected: frozenset[str] = frozenset()) -> list[str]:
        """What it logged as errors: there should be nothing but what is expected."""
        with self.log.open() as log:
            events = [json.loads(line) for line in log if line.startswith("{")]
        return [
            f"{each['event']} {each.get('error', each.get('reason', ''))}"
            for each in events
            if each["level"] == "error" and each["event"] not in expected
        ]
