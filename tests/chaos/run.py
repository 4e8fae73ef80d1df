"""One run: replicas that are struck, one that is not, and the checker's verdict."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.chaos.case import ENDS, Action, Case
from tests.chaos.scenario import LANES, ONCE_ONLY, SCENARIOS, Scenario, scenario_of
from tests.defences.plugin import PROGRAMMING
from tests.support.bridge import Bridge, open_bridge
from tests.support.crash import OPEN, bury
from tests.support.payments import LOST, payments
from tests.support.service import Service

POLL_SECONDS = 0.1
NUDGE_SECONDS = 0.3
LATE_SECONDS = 1.5
"""What comes by time and not by work, comes within this after a wave."""
WAVES_MAX = 12
WOKEN_SECONDS = 1.0
"""What a replica that wakes late does first, it does within this."""
STRUCK, HALTED = "failpoint.struck", ("slot.halted", "partition.halted", "lane.halted")


class NotReached(AssertionError):
    """No replica passed the failpoint so often."""


class NotDone(AssertionError):
    """Something was left when there was no more time."""


class Ground(NamedTuple):
    """What all runs share."""

    kafka: EmbeddedKafka
    postgres: EmbeddedPostgres
    template: str
    """A migrated database, to be copied."""
    patience_seconds: float
    """What has not come by now will not come."""


class Outcome(NamedTuple):
    """What a run came to, if it came to an end."""

    extra: int
    """Requests that were paid more than once."""
    counted: int
    """Executions paid for in vain of which Postgres knows the cause."""
    followed_seconds: float | None
    """From the last strike until another pass of the same place (by another replica, if the struck one is gone)."""
    finished_seconds: float
    """From the last strike until nothing was left to do."""


def moment(event: dict[str, str]) -> float:
    """The Unix time of a line of a log."""
    return datetime.fromisoformat(event["timestamp"]).timestamp()


@dataclass
class Cast:
    """The replicas of a run."""

    bridge: Bridge
    case: Case
    scenario: Scenario
    patience_seconds: float
    armed: list[Service] = field(default_factory=list)
    clean: list[Service] = field(default_factory=list)
    ready_at: dict[Service, float] = field(default_factory=dict)
    helpers: list[asyncio.Task[None]] = field(default_factory=list)
    produced: int = 0
    waves: int = 0

    async def play(self) -> Outcome:
        """Let it strike, let the others end the work, and have it judged."""
        self.helpers.append(asyncio.create_task(self.help()))
        try:
            await self.strike()
            await self.scenario.mend(self.bridge)
            struck_at = self.strikes()[-1]
            await self.until(self.at_rest, "something is left to do")
            finished_at = time.time()
            if self.case.action is Action.HANG:
                await self.wake()
            return await self.judge(struck_at, finished_at)
        finally:
            for each in self.helpers:
                each.cancel()
            await asyncio.gather(*self.helpers, return_exceptions=True)

    async def help(self) -> None:
        """Let time pass, and operators act."""
        while True:
            for statement in self.scenario.nudges:
                await self.bridge.sql(statement)
            await asyncio.sleep(NUDGE_SECONDS)

    async def strike(self) -> None:
        """Produce until all has struck; then a clean replica runs.

        Raises:
            NotReached: all was done without.
        """
        await self.bring(self.armed)
        standby = None
        if self.case.times == 1 and not self.scenario.alone:
            self.helpers.append(standby := asyncio.create_task(self.bring(self.clean)))
        while (struck := len(self.strikes())) < self.wanted:
            if self.waves == WAVES_MAX:
                raise NotReached(f"{struck} of {self.wanted} strikes in {self.waves} waves")
            if not any(map(self.can_strike, self.armed)):
                await self.bring(self.armed)
            await self.wave()
            await self.worked_off(struck)
        await (standby or self.bring(self.clean))

    async def worked_off(self, struck: int) -> None:
        """Wait until it has struck once more, or the wave was answered without, or nobody is left to be struck."""

        async def over() -> bool:
            left = any(map(self.can_strike, self.armed))
            return len(self.strikes()) > struck or self.answered() or not left

        await self.until(over, "a wave is not answered")
        ends_at = time.monotonic() + LATE_SECONDS
        while len(self.strikes()) == struck and time.monotonic() < ends_at:
            await asyncio.sleep(POLL_SECONDS)
        if self.case.action in ENDS and not self.case.name.startswith("intake."):
            with suppress(KafkaError):  # of intake's own failpoints the session's time is part of what is seen
                await bury(self.bridge)

    async def wave(self) -> None:
        """Produce some more."""
        self.produced += await self.scenario.wave(self.bridge, self.waves)
        self.waves += 1
        if self.scenario.drains:
            await asyncio.sleep(LATE_SECONDS)
            for each in filter(self.can_strike, self.armed):
                each.send(signal.SIGTERM)

    async def wake(self) -> None:
        """Let those who sleep go on, among more work."""
        for each in self.armed:
            each.wake()
        await self.wave()
        await asyncio.sleep(WOKEN_SECONDS)
        await self.until(self.at_rest, "something is left to do since the sleepers woke")

    async def bring(self, role: list[Service]) -> None:
        """Start one more replica, and wait until it is ready, has struck or has ended."""
        if self.scenario.topics:
            await self.scenario.mend(self.bridge)
        arms = [self.case.watch]
        if role is self.armed:
            arms = [self.case.arm(len(self.strikes())), *filter(None, [self.scenario.arms])]
        settings: dict[str, Any] = dict(self.scenario.settings)
        service = self.bridge.service(failpoints=";".join(arms), **settings)
        role.append(service)
        await service.start()

        async def come() -> bool:
            gone = service.returncode is not None or bool(self.strikes_of(service))
            return gone or await asyncio.to_thread(service.is_ready)

        await self.until(come, f"{service.log.name} does not start")
        self.ready_at[service] = time.time()
        if role is self.armed:
            await self.scenario.begin(self.bridge)

    @property
    def wanted(self) -> int:
        """How many strikes there are to be."""
        return 1 if (self.case.name, self.case.action) in ONCE_ONLY else self.case.times

    def strikes_of(self, service: Service) -> list[float]:
        """When a replica was struck."""
        events = service.logs(STRUCK)
        return [moment(each) for each in events if each["action"] != "tell" and each["name"] == self.case.name]

    def strikes(self) -> list[float]:
        """When it struck, in order."""
        return sorted(each for service in self.armed for each in self.strikes_of(service))

    def can_strike(self, service: Service) -> bool:
        """Whether a replica may yet be struck."""
        ended = service.returncode is not None
        return not ended and not (self.case.action in ENDS and self.strikes_of(service))

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait for a condition.

        Raises:
            NotDone: it did not come true.
        """
        ends_at = time.monotonic() + self.patience_seconds
        while not await condition():
            if time.monotonic() > ends_at:
                raise NotDone(what)
            await asyncio.sleep(POLL_SECONDS)

    def answered(self) -> bool:
        """Whether so much has come out as was produced."""
        return sum(map(len, self.bridge.reader.received.values())) >= self.produced

    async def at_rest(self) -> bool:
        """Whether nothing is left to do."""
        if not self.answered():
            return False
        counts = [await self.bridge.sql(query) for query in (OPEN, self.scenario.rest)]
        return not any(count for ((count,),) in counts)

    def followed(self, struck_at: float) -> float | None:
        """Seconds until another pass of the place; None when there was none."""
        others = [each for each in self.bridge.services if each in self.clean or self.case.action not in ENDS]
        seconds = [
            moment(event) - max(struck_at, self.ready_at[service])
            for service in others
            for event in service.logs(STRUCK)
            if event["action"] == "tell" and moment(event) > struck_at
        ]
        return max(min(seconds), 0.0) if seconds else None

    async def judge(self, struck_at: float, finished_at: float) -> Outcome:
        """The checker's verdict, and that of the logs.

        Raises:
            AssertionError: something is wrong.
        """
        paid = await payments(self.bridge)
        assert not paid.unexplained, f"paid, and Postgres knows no cause: {paid.unexplained[:5]}"
        assert self.scenario.loses or not paid.extra[LOST], f"{paid.extra[LOST]} answers were paid for and not taken"
        counted = paid.extra.total()
        report = await self.bridge.check(extra_executions_allowed=counted)
        for service in self.bridge.services:
            assert (error := PROGRAMMING.search(service.text())) is None, f"{error[0]} in {service.log.name}"
        halted = {name for name in HALTED for service in self.bridge.services if service.logs(name)}
        assert self.scenario.halts or not halted, f"{', '.join(halted)} without need"
        extra = report["extra_executions"]
        return Outcome(extra, counted, self.followed(struck_at), finished_at - struck_at)


async def run(case: Case, ground: Ground, folder: Path) -> Outcome:
    """One run, in a world of its own.

    Raises:
        Exception: it failed; the folder holds the logs.
    """
    name = scenario_of(case.name)
    scenario = SCENARIOS[name]
    options: dict[str, Any] = {"lanes": LANES, "template": ground.template, "more_results": scenario.topics}
    async with open_bridge(ground.kafka, ground.postgres, folder, **options) as bridge:
        await bridge.simulator.faults([dict(each) for each in scenario.faults])
        await scenario.prepare(bridge)
        return await Cast(bridge, case, scenario, ground.patience_seconds).play()
