"""A simulator of the Batch API as a subprocess, for tests."""

import asyncio
import json
import os
import signal
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from openai import AsyncOpenAI
from openai.types import Batch

from tests.support.forked import Forked

SERVICE = Path(__file__).parents[2] / "service"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
REACH_SECONDS = 60.0
CONTROL_SECONDS = 30.0
TERMINAL = ("completed", "failed", "expired", "cancelled")


class Simulator:
    """`python -m batchsim` over a state folder, on a free port of 127.0.0.1 that it keeps when it is restarted.

    By default a batch passes through every status at once. `options` are further options of the command, such as
    `in_progress_seconds=1` or `enqueued_tokens=["gpt-4o=100"]`; `url` is the server, `base_url` what a client takes.
    """

    def __init__(self, state: Path, *, port: int = 0, **options: Any) -> None:
        self.state = state
        self.port = port
        delays = dict.fromkeys(
            ("validating_seconds", "in_progress_seconds", "finalizing_seconds", "cancelling_seconds"), 0
        )
        self.options: dict[str, Any] = {**delays, **options}
        self.process: Forked | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as `base_url`."""
        return f"{self.url}/v1"

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process is not None, "the simulator runs"
        return self.process.pid

    def client(self, **options: Any) -> AsyncOpenAI:
        """An OpenAI client that does not retry by itself; to be closed by the caller."""
        return AsyncOpenAI(**{"base_url": self.base_url, "api_key": "sk-test", "max_retries": 0, **options})

    def command(self) -> list[str]:
        """The module and its arguments."""
        command = ["batchsim", "--state", str(self.state), "--port", str(self.port)]
        command += ["--port-file", str(self.state / "port")]
        for name, value in self.options.items():
            for one in value if isinstance(value, list) else [value]:
                command += [f"--{name.replace('_', '-')}", str(one)]
        return command

    async def start(self) -> None:
        """Start it and wait until it listens."""
        self.state.mkdir(parents=True, exist_ok=True)
        port_file = self.state / "port"
        port_file.unlink(missing_ok=True)
        self.process = Forked(self.command(), self.state / "log", os.environ)
        async with asyncio.timeout(START_SECONDS):
            while not port_file.exists():
                if self.process.returncode is not None:
                    raise RuntimeError(f"batchsim ended: {self.log()}")
                await asyncio.sleep(0.005)
        self.port = int(port_file.read_text())

    async def stop(self) -> int:
        """End it by SIGTERM and wait; returns its exit status. Does nothing if it has ended."""
        return await self.end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it by SIGKILL and wait."""
        await self.end(signal.SIGKILL)

    async def restart(self) -> None:
        """Kill it and start it again, on the same port and state."""
        await self.kill()
        await self.start()

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end."""
        assert self.process is not None, "the simulator was started"
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(STOP_SECONDS):
            return await self.process.wait()

    async def faults(self, rules: Sequence[dict[str, Any]]) -> None:
        """Replace the fault rules."""
        await asyncio.to_thread(self.call, "PUT", "/control/faults", json.dumps(list(rules)).encode())

    async def fired(self) -> list[int]:
        """How often each fault rule has fired."""
        counted = await asyncio.to_thread(self.call, "GET", "/control/faults")
        return [rule["fired"] for rule in counted]

    async def control_state(self) -> dict[str, Any]:
        """What `GET /control/state` answers: pid, cpu_seconds, seed, batches by status, enqueued tokens by model."""
        state: dict[str, Any] = await asyncio.to_thread(self.call, "GET", "/control/state")
        return state

    async def webhook(self, batch_id: str, **options: Any) -> list[int | None]:
        """Have an event sent now; returns the receiver's statuses. Options are those of `POST /control/webhooks`."""
        body = json.dumps({"batch_id": batch_id, **options}).encode()
        answer = await asyncio.to_thread(self.call, "POST", "/control/webhooks", body)
        statuses: list[int | None] = answer["statuses"]
        return statuses

    def call(self, method: str, path: str, body: bytes | None = None) -> Any:
        """Call the control endpoint, blocking."""
        request = urllib.request.Request(self.url + path, data=body, method=method)
        with urllib.request.urlopen(request, timeout=CONTROL_SECONDS) as response:
            return json.load(response)

    def journal(self) -> list[dict[str, Any]]:
        """The journal's lines: `batch.created` and `request.executed` events in their order."""
        path = self.state / "journal.jsonl"
        text = path.read_bytes() if path.exists() else b""
        return [json.loads(line) for line in text.split(b"\n") if line]

    def log(self) -> str:
        """What it has printed."""
        return (self.state / "log").read_text()


def request_line(custom_id: str, body: dict[str, Any], url: str = "/v1/chat/completions") -> bytes:
    """A line of a batch input file."""
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body}).encode() + b"\n"


def chat_lines(count: int, *, model: str = "gpt-4o-mini", characters: int = 0) -> bytes:
    """The input file of so many chat requests, `request-0` onwards, each with a prompt of its own."""
    bodies = (
        {"model": model, "messages": [{"role": "user", "content": f"prompt {number}".ljust(characters, ".")}]}
        for number in range(count)
    )
    return b"".join(request_line(f"request-{number}", body) for number, body in enumerate(bodies))


async def upload(client: AsyncOpenAI, content: bytes) -> str:
    """Upload a batch input file; returns its id."""
    return (await client.files.create(file=("input.jsonl", content), purpose="batch")).id


async def create_batch(
    client: AsyncOpenAI, content: bytes, endpoint: Any = "/v1/chat/completions", **options: Any
) -> Batch:
    """Upload an input file and create a batch of it."""
    file_id = await upload(client, content)
    return await client.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window="24h", **options)


async def reach(client: AsyncOpenAI, batch_id: str, *statuses: str) -> Batch:
    """Poll a batch until it has one of the statuses, by default a terminal one."""
    async with asyncio.timeout(REACH_SECONDS):
        while True:
            batch = await client.batches.retrieve(batch_id)
            if batch.status.lower() in (statuses or TERMINAL):  # a rule may spell it in its own way
                return batch
            await asyncio.sleep(0.005)


async def run_batch(
    client: AsyncOpenAI, content: bytes, endpoint: Any = "/v1/chat/completions", **options: Any
) -> Batch:
    """Upload, create, and poll until the end."""
    return await reach(client, (await create_batch(client, content, endpoint, **options)).id)


async def result_lines(client: AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of a result file; none for a null id."""
    if not file_id:
        return []
    content = await client.files.content(file_id)
    return [json.loads(line) for line in content.content.split(b"\n") if line]
