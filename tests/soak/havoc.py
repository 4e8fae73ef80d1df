"""Carries a schedule out: kills, pauses and starts again, and sets the simulator's faults."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from http.client import HTTPException
from typing import Any, TypeVar

from penstock.embedded.postgres import EmbeddedPostgres
from tests.soak.schedule import REPLICAS, Act, What
from tests.soak.storms import ALWAYS, STORMS
from tests.support.bridge import Bridge
from tests.support.service import Service

TELL_SECONDS = 60.0
INSIST_SECONDS = 0.2
WATCH_SECONDS = 1.0
GOOD_DAY = "a few failing lines, on good days too"

Answer = TypeVar("Answer")


class EndedByItselfError(Exception):
    """A replica that nobody killed is gone."""


class Replica:
    """A replica that is started again whenever it is gone, as an orchestrator does."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.changing = asyncio.Lock()
        self.told = 0

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.service.process is not None and self.service.returncode is None

    @property
    def was_up(self) -> bool:
        """Whether this life has come as far as running its stages."""
        return b'"service.started"' in self.service.log.read_bytes()[self.told :]

    async def start(self) -> None:
        """Start it, without waiting for what it needs."""
        self.told = self.service.log.stat().st_size if self.service.log.exists() else 0
        await self.service.start()

    def ids(self) -> list[str]:
        """The replica ids of all its lives, the last one last."""
        return [each["replica"] for each in self.service.logs("service.started")]


class Havoc:
    """The world of a soak, and what has been done to it so far."""

    def __init__(self, bridge: Bridge, postgres: EmbeddedPostgres, replicas: Sequence[Replica]) -> None:
        assert len(replicas) == REPLICAS
        self.bridge = bridge
        self.postgres = postgres
        self.replicas = replicas
        self.done: Counter[What] = Counter()
        self.starts_in_vain = 0
        self.fired: Counter[str] = Counter()
        self.in_force: list[str] = []
        self.storm = ""

    async def run(self, schedule: Sequence[Act]) -> None:
        """Carry the schedule out to its end, what concerns one thing after the other."""
        begins_at = time.monotonic()
        about = [(What.KILL, What.PAUSE), (What.KAFKA,), (What.POSTGRES,), (What.SIMULATOR,), (What.STORM,)]
        async with asyncio.TaskGroup() as group:
            for kinds in about:
                group.create_task(self.carry_out([each for each in schedule if each.what in kinds], begins_at))

    async def carry_out(self, acts: Sequence[Act], begins_at: float) -> None:
        """One act after the other, each at its time."""
        for act in acts:
            await asyncio.sleep(max(0.0, begins_at + act.at_seconds - time.monotonic()))
            await self.act(act)
            self.done[act.what] += 1

    def act(self, act: Act) -> Coroutine[Any, Any, None]:
        """What an act does."""
        match act.what:
            case What.KILL:
                return self.kill_replica(self.replicas[act.replica], act.seconds)
            case What.PAUSE:
                return self.pause_replica(self.replicas[act.replica], act.seconds)
            case What.KAFKA:
                return self.kill_kafka(act.seconds)
            case What.POSTGRES:
                return self.kill_postgres(act.seconds)
            case What.SIMULATOR:
                return self.kill_simulator(act.seconds)
            case What.STORM:
                return self.let_storm(act)

    async def kill_replica(self, replica: Replica, seconds: float) -> None:
        """End a replica without a warning."""
        async with replica.changing:
            await replica.service.kill()
            await asyncio.sleep(seconds)
            await replica.start()

    async def pause_replica(self, replica: Replica, seconds: float) -> None:
        """Let a replica sleep past its lease, wherever it stands."""
        replica.service.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            replica.service.wake()

    async def kill_kafka(self, seconds: float) -> None:
        """End the broker without a warning."""
        await self.bridge.kafka.kill()
        await asyncio.sleep(seconds)
        await self.bridge.kafka.start()

    async def kill_postgres(self, seconds: float) -> None:
        """End the database server and all its sessions without a warning."""
        if self.postgres.process is not None:
            os.killpg(self.postgres.process.pid, signal.SIGKILL)
        await self.postgres.kill()
        await asyncio.sleep(seconds)
        await self.postgres.start()

    async def kill_simulator(self, seconds: float) -> None:
        """End the provider without a warning."""
        await self.bridge.simulator.kill()
        await asyncio.sleep(seconds)
        await self.bridge.simulator.start()

    async def let_storm(self, act: Act) -> None:
        """Let some kinds of trouble loose for a while."""
        self.storm = ", ".join(act.storms)
        await self.put_in_force(act.storms)
        await asyncio.sleep(act.seconds)
        self.storm = ""
        await self.put_in_force(())

    async def put_in_force(self, kinds: Sequence[str], *, good_day: bool = True) -> None:
        """Replace the simulator's faults, and note how often the ones before have struck."""
        rules = [(kind, rule) for kind in kinds for rule in STORMS[kind]]
        rules += [(GOOD_DAY, rule) for rule in ALWAYS if good_day]
        fired = await insist(self.bridge.simulator.fired)
        for kind, count in zip(self.in_force, fired, strict=True):
            self.fired[kind] += count
        await insist(lambda: self.bridge.simulator.faults([rule for _, rule in rules]))
        self.in_force = [kind for kind, _ in rules]

    async def watch(self) -> None:
        """Start replicas again that ended because something they need at their start was away.

        Raises:
            EndedByItselfError: one ended that had come up.
        """
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for number, replica in enumerate(self.replicas):
                if replica.changing.locked() or replica.running:
                    continue
                if replica.was_up:
                    raise EndedByItselfError(f"replica {number} ended by itself with {replica.service.returncode}")
                self.starts_in_vain += 1
                async with replica.changing:
                    await replica.start()


async def insist(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Call the simulator until it answers: it may be on its way up."""
    async with asyncio.timeout(TELL_SECONDS):
        while True:
            try:
                return await call()
            except (OSError, HTTPException):
                await asyncio.sleep(INSIST_SECONDS)
