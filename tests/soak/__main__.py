"""`python -m tests.soak --minutes N [--seed S]`: let everything fail for so long; exit status 0 when all went well.

A run of half an hour or more that went well writes docs/soak.md. One that did not keeps its folder, with all logs.
"""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from penstock.embedded.server import free_port
from penstock.telemetry.log import configure_logging
from tests.soak.havoc import Havoc, Replica
from tests.soak.memory import Memory
from tests.soak.report import Summary
from tests.soak.schedule import REPLICAS, What, draw
from tests.soak.traffic import SMALL_MODEL, Ear, Traffic
from tests.soak.verdict import NEVER, cleaned, drained, errors_of, judged, write_remains
from tests.support.bridge import Bridge, open_bridge
from tests.support.receiver import SECRET

PAGE = Path(__file__).parents[2] / "docs" / "soak.md"
RECORDED_MINUTES = 30.0
PROGRESS_SECONDS = 10.0
START_SECONDS = 180.0
LEASE_SECONDS = 4
LANES = """
[defaults]
age_max_seconds = 4
attempts_max = 8
retry_min_seconds = 1
retry_max_seconds = 5
"""
SETTINGS: dict[str, Any] = {
    "intake_linger_seconds": 0.5,
    "janitor_file_grace_seconds": 30,
    "janitor_interval_seconds": 2,
    "janitor_orphan_grace_seconds": 60,
    "janitor_payload_turn_seconds": 60,
    "kafka_session_seconds": 10,
    "lease_seconds": LEASE_SECONDS,
    "poller_cancel_grace_seconds": 8,
    "poller_interval_max_seconds": 6,
    "poller_interval_seconds": 3,
    "poller_stuck_grace_seconds": 5,
    "provider_creates_per_hour": 100_000,
    "publisher_file_gone_seconds": 10,
    "submitter_look_up_seconds": 2,
    "submitter_settle_seconds": 5,
    "webhook_host": "127.0.0.1",
    "webhook_secret": SECRET,
}
"""Leases and patience that are short, so that half an hour holds what takes days otherwise."""
SIMULATOR = {
    "creates_per_hour": 100_000,
    "enqueued_tokens": [f"{SMALL_MODEL}=30000"],
    "finalizing_seconds": 0.3,
    "in_progress_seconds": 2,
    "jitter": 0.5,
    "validating_seconds": 0.3,
    "webhook_secret": SECRET,
    "window_seconds": 45,
}
INTRODUCTION = """# A soak

`make soak` runs three replicas under steady traffic over two topics (chats with three models, one of which has a small
enqueued-token limit, embeddings, long prompts, short deadlines, messages that are no request), one of them told by
the provider's webhooks, while everything around them fails: a replica is killed about every 20 s or paused past its
lease and woken, the broker, Postgres and the provider are killed and started again, and the provider has storms of
every kind of fault that the simulator knows. The seed decides what fails when. One replica is paused but never killed,
so that its memory is seen over the whole run. At the end the independent checker judges, and of every execution that
was paid for in vain Postgres must know the cause.

"""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=RECORDED_MINUTES, help="how long things go wrong")
    parser.add_argument("--seed", default="", help="of the schedule and the traffic; random by default")
    parser.add_argument("--rate", type=float, default=100.0, help="messages a second")
    return parser.parse_args()


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)  # noqa: T201 - the program's answer


class Soak:
    """One run."""

    def __init__(self, bridge: Bridge, postgres: EmbeddedPostgres, summary: Summary) -> None:
        assert isinstance(bridge.reader, Ear), "it counts"
        self.bridge = bridge
        self.summary = summary
        self.ear = bridge.reader
        told = urlsplit(str(bridge.simulator.options["webhook_url"])).port  # one is told, and whoever polls takes it
        ports = [told, *[0] * (REPLICAS - 1)]
        self.replicas = [Replica(bridge.service(webhook_port=port, **SETTINGS)) for port in ports]
        self.havoc = Havoc(bridge, postgres, self.replicas)
        self.memory = Memory(self.replicas)
        topics = [bridge.requests, *bridge.more_requests]
        self.traffic = Traffic(
            bridge.kafka.bootstrap_servers, topics, summary.rate, summary.seed, bridge.reader.waiting
        )

    async def run(self) -> None:
        """Let things go wrong, then see what has become of all messages."""
        for replica in self.replicas:
            await replica.start()
        async with asyncio.timeout(START_SECONDS):
            while not all(replica.was_up for replica in self.replicas):
                await asyncio.sleep(0.1)
        watching = [asyncio.create_task(each) for each in (self.havoc.watch(), self.memory.sample(), self.tell())]
        sending = asyncio.create_task(self.traffic.run())
        try:
            await beside(self.go_wrong(), [*watching, sending])
            self.traffic.stopped.set()
            await beside(self.settle(sending), watching)
        finally:
            for task in (*watching, sending):
                task.cancel()
            await asyncio.gather(*watching, sending, return_exceptions=True)
        await self.end()

    async def go_wrong(self) -> None:
        """The schedule, and what is left of the time."""
        seconds = self.summary.minutes * 60
        ends_at = time.monotonic() + seconds
        await self.havoc.put_in_force(())
        await self.havoc.run(draw(self.summary.seed, seconds))
        await asyncio.sleep(max(0.0, ends_at - time.monotonic()))

    async def settle(self, sending: asyncio.Task[None]) -> None:
        """No more faults: everything must come to its end."""
        say("no more faults, no more messages: draining")
        await self.havoc.put_in_force((), good_day=False)
        await sending
        self.summary.drain_seconds, left = await drained(self.bridge, self.ear, self.replicas)
        if left:
            self.summary.problems.append(f"not drained after {self.summary.drain_seconds:.0f} s: {left}")

    async def end(self) -> None:
        """Judge, then see that a fresh replica clears up after those before it."""
        summary, bridge = self.summary, self.bridge
        summary.done, summary.fired, summary.starts_in_vain = (
            self.havoc.done,
            self.havoc.fired,
            self.havoc.starts_in_vain,
        )
        summary.peak_mib, summary.thirds_mib = self.memory.peak, self.memory.thirds
        summary.latencies = self.ear.waiting.seconds
        summary.problems += self.memory.problems()
        summary.checked, summary.payments = await judged(bridge, summary.problems)
        state = await bridge.simulator.control_state()
        summary.batches.update(state["batches"])
        for number, replica in enumerate(self.replicas):
            if code := await replica.service.stop():
                summary.problems.append(f"replica {number} ended with {code} when it was told to stop")
        summary.errors = errors_of(self.replicas)
        if strange := {event: count for event, count in summary.errors.items() if event in NEVER}:
            summary.problems.append(f"errors that nothing here should cause: {strange}")
        if summary.problems:
            await write_remains(bridge)
            return
        say("judged; a fresh replica clears up")
        async with bridge.service(**SETTINGS):
            summary.problems += await cleaned(bridge, summary.payments.superfluous)

    async def tell(self) -> None:
        """A line every ten seconds."""
        began = time.monotonic()
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            done = self.havoc.done
            servers = "/".join(str(done[what]) for what in (What.KAFKA, What.POSTGRES, What.SIMULATOR))
            say(
                f"{time.monotonic() - began:5.0f} s  produced {self.traffic.produced}, "
                f"answered {self.ear.counts.total()}, in flight {len(self.ear.waiting.since)}  "
                f"kills {done[What.KILL]}, pauses {done[What.PAUSE]}, Kafka/Postgres/provider {servers}, "
                f"storms {done[What.STORM]}  at most {self.memory.peak:.0f} MiB  {self.havoc.storm}"
            )


async def beside(work: Coroutine[Any, Any, None], others: Sequence[asyncio.Task[None]]) -> None:
    """Run some work to its end; one of the others that ends before is a failure, and raised."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task, *others], return_when=asyncio.FIRST_COMPLETED)
        for each in others:
            if each.done():
                await each
                raise RuntimeError("what should go on to the end has ended")
        await task
    finally:
        task.cancel()


async def soak(options: argparse.Namespace, folder: Path) -> Summary:
    """Start everything and run."""
    summary = Summary(options.seed, options.minutes, options.rate)
    async with AsyncExitStack() as stack:
        kafka, postgres = EmbeddedKafka(folder / "kafka", heap_mib=512), EmbeddedPostgres(folder / "postgres")
        for server in (kafka, postgres):
            stack.push_async_callback(server.stop)
            await server.start()
        bridge = await stack.enter_async_context(
            open_bridge(
                kafka,
                postgres,
                folder,
                partitions=6,
                lanes=LANES,
                simulator={
                    **SIMULATOR,
                    "seed": options.seed,
                    "webhook_url": f"http://127.0.0.1:{free_port()}/webhooks",
                },
                more_requests=1,
                reader=Ear,
            )
        )
        await Soak(bridge, postgres, summary).run()
    return summary


def main() -> int:
    """Run, report, and say by the exit status whether all went well."""
    options = arguments()
    options.seed = options.seed or secrets.token_hex(4)
    configure_logging("error")
    folder = Path(tempfile.mkdtemp(prefix="penstock-soak-"))
    say(f"seed {options.seed}, logs in {folder}")
    try:
        summary = asyncio.run(soak(options, folder))
    except BaseException:
        say(f"FAILED; seed {options.seed}, logs in {folder}")
        raise
    say(summary.as_markdown())
    for problem in summary.problems:
        say(f"WRONG: {problem}")
    if summary.problems:
        say(f"FAILED; logs in {folder}; again: {summary.command}")
        return 1
    shutil.rmtree(folder)
    if options.minutes >= RECORDED_MINUTES:
        PAGE.write_text(INTRODUCTION + summary.as_markdown())
    say(f"all went well; again: {summary.command}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
