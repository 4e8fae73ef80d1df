"""Commands of the service, and the simulator, as processes that are forked from one which has imported it already.

A replica spends more than a second of CPU on imports, and the suites start thousands of them. What is forked has an
environment, arguments, signals and an exit status of its own, as a process that was started afresh.
"""

import asyncio
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from penstock.cli.app import COMMANDS
from penstock.telemetry import failpoint

POLL_SECONDS = 0.01

FORKS = multiprocessing.get_context("forkserver")
LATE = (
    *("httpcore2", "anyio._backends._asyncio"),
    *("openai.lib._files", "openai.resources.batches", "openai.resources.files"),
    *("uvicorn.lifespan.off", "uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto"),
)
"""What a replica imports once it runs: a tenth of a second."""
FORKS.set_forkserver_preload(
    [*(f"penstock.cli.{each}" for each in set(COMMANDS.values())), "batchsim.cli", *LATE, __name__]
)


class Forked:
    """A forked process, with the methods of asyncio's own subprocesses that tests use."""

    def __init__(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.process = FORKS.Process(target=run, args=(tuple(arguments), str(log), dict(environment)), daemon=True)
        self.process.start()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process.pid is not None, "it was started"
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, below 0 by which signal; None while it runs."""
        return self.process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait for its end; returns how it ended."""
        while (code := self.returncode) is None:
            await asyncio.sleep(POLL_SECONDS)
        return code


def run(arguments: Sequence[str], log: str, environment: Mapping[str, str]) -> None:
    """Be `python -m MODULE …`, in the forked process."""
    with Path(log).open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.clear()
    os.environ.update({"SSL_CERT_DIR": os.devnull, **environment})  # to load the authorities takes 60 ms
    failpoint.arm(environment.get(failpoint.VARIABLE, ""))  # read at import otherwise
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
