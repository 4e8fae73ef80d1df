"""The demonstration from the first process to the last line of its report."""

import asyncio
import signal
import tempfile
from pathlib import Path

from rich.markup import escape

from penstock.demo.corpus import read_lines
from penstock.demo.environment import Environment
from penstock.demo.progress import Progress
from penstock.demo.report import show_report, show_samples, show_storm
from penstock.demo.screen import Screen
from penstock.demo.stack import Stack, running
from penstock.demo.storm import EXPECTED, Storm
from penstock.demo.tally import Tally
from penstock.embedded.server import ServerError
from penstock.kafka.request_producer import RequestProducer
from penstock.postgres.operator_store import OperatorStore, Pausable
from penstock.postgres.report_store import ReportStore

SEND_PER_SECOND = 1500
"""Slower than Kafka takes them, so that windows can be seen to fill."""
SLICE = 150
STALL_SECONDS = 60.0
"""With the simulator, nothing takes so long: then something is wrong."""
PROVIDER_STALL_SECONDS = 26 * 3600.0
"""A real provider may take its 24 hours."""
STORM_PATIENCE = 3
"""In a storm it may take so many times as long."""
ALIVE_SECONDS = 1.0
OPERATOR_SECONDS = 3.0
"""In a storm somebody looks this often at what is halted."""


class Demonstration:
    """One run.

    Args:
        folder: takes all data; the caller removes it.
        input_file: the user's own Batch API file; None takes the standard library's documentation.
        environment: what counts of the process's environment.
        keep: leave everything running at the end, until a signal.
        storm: what the provider does wrong.
    """

    def __init__(
        self,
        folder: Path,
        input_file: Path | None,
        environment: Environment,
        *,
        keep: bool,
        storm: Storm | None = None,
    ) -> None:
        self.folder = folder
        self.environment = environment
        self.storm = storm
        self.input_file = input_file
        self.keep = keep
        self.screen = Screen()

    async def run(self) -> bool:
        """Run to the end; returns whether every request came back exactly once.

        Raises:
            ServerError, OSError, PenstockError: something could not be started or has ended.
        """
        reading = asyncio.create_task(asyncio.to_thread(read_lines, self.input_file))
        try:
            async with running(self.folder, self.screen.say, self.environment, self.storm) as stack:
                passed = await self.demonstrate(stack, *await reading)
                if self.keep:
                    await self.stay(stack)
        finally:
            reading.cancel()
        return passed

    async def demonstrate(self, stack: Stack, lines: list[bytes], broken: int | None) -> bool:
        """Send, watch, and judge."""
        self.screen.say(f"{len(lines):,} requests go to {stack.settings.kafka.request_topics[0]}")
        tally = Tally(stack.settings.kafka, stack.cluster)
        progress = Progress(tally, stack.settings.read_lanes(), len(lines))
        stall_seconds = STALL_SECONDS if stack.simulator else PROVIDER_STALL_SECONDS
        stall_seconds *= STORM_PATIENCE if self.storm else 1
        async with tally.reader() as reader:
            async with asyncio.TaskGroup() as group:
                sending = self.send(stack, lines, progress)
                beside = [
                    group.create_task(each)
                    for each in (
                        sending,
                        tally.follow(reader),
                        self.screen.follow(progress),
                        stand_by(stack),
                        *([self.operate(stack)] if self.storm else []),
                    )
                ]
                await progress.watch(ReportStore(stack.database), stall_seconds)
                for task in beside:
                    task.cancel()
            await tally.finish(reader)
        show_samples(self.screen, tally)
        show_report(self.screen, progress)
        if stack.simulator and self.storm:
            show_storm(self.screen, self.storm.seed, await stack.simulator.met())
        faults = [*tally.faults(len(lines), broken), *stack.service.alerts(EXPECTED if self.storm else frozenset())]
        for each in faults:
            self.screen.show(f"[bold red]✗[/] {escape(each)}")
        if not faults:
            self.screen.show("[bold green]✓[/] every request came back exactly once")
        return not faults

    async def send(self, stack: Stack, lines: list[bytes], progress: Progress) -> None:
        """Send the lines, spread over some seconds, while the progress is watched."""
        async with RequestProducer(stack.settings.kafka, progress.tally.request_topic, keyed=True) as producer:
            for start in range(0, len(lines), SLICE):
                for line in lines[start : start + SLICE]:
                    await producer.send(line)
                await producer.flush()
                progress.sent = min(start + SLICE, len(lines))
                await asyncio.sleep(SLICE / SEND_PER_SECOND)

    async def operate(self, stack: Stack) -> None:
        """Resume what the provider's refusals halted, for ever, as an operator does who has paid the bill."""
        store = OperatorStore(stack.database)
        while True:
            await asyncio.sleep(OPERATOR_SECONDS)
            for kind in (Pausable.ACCOUNT, Pausable.LANE):
                for name in await store.resume(kind, None):
                    self.screen.say(f"penstock resume {kind} {name}")

    async def stay(self, stack: Stack) -> None:
        """Leave everything running until a signal, and say how to reach it."""
        simulator = f"Simulator {stack.simulator.url} (faults: PUT /control/faults)" if stack.simulator else ""
        self.screen.show(f"\nMetrics   {stack.service.url}/metrics\n{simulator}")
        self.screen.show("\nIn another terminal, to use penstock send, tail, status, batches, find:\n")
        if self.environment.ignored:
            self.screen.show(f"unset {' '.join(self.environment.ignored)}")
        for name, value in sorted(stack.exports.items()):
            self.screen.show(escape(f"export {name}={value}"))
        self.screen.show("\nCtrl-C ends everything.")
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()


async def stand_by(stack: Stack) -> None:
    """Watch over the processes, for ever.

    Raises:
        ServerError: one has ended by itself.
    """
    while True:
        await asyncio.sleep(ALIVE_SECONDS)
        for each in stack.processes:
            if not each.is_running:
                raise ServerError(f"{each.name} has ended:\n{each.log_tail()}")


def demonstrate(input_file: Path | None, environment: Environment, *, keep: bool, seed: str | None = None) -> bool:
    """Run the demonstration to the end; SIGTERM and SIGHUP end it as Ctrl-C does, and nothing outlives it.

    Args:
        input_file: the user's own Batch API file; None takes the standard library's documentation.
        environment: what counts of the process's environment.
        keep: leave everything running at the end, until a signal.
        seed: of a storm at the provider; None: a calm day.

    Raises:
        KeyboardInterrupt, asyncio.CancelledError: it was ended by a signal.
    """

    async def main() -> bool:
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await Demonstration(Path(folder), input_file, environment, keep=keep, storm=storm).run()

    storm = None if seed is None else Storm.of(seed)

    # Outside the loop: the loop's threads may still be writing when its last task has ended.
    with tempfile.TemporaryDirectory(prefix="penstock-demo-", ignore_cleanup_errors=True) as folder:
        return asyncio.run(main())
