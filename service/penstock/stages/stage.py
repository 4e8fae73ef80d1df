"""What every stage is: rounds that may fail and are tried again, until the drain."""

import asyncio
import contextlib
import random
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator

import structlog

from penstock.core.errors import ConfigurationError, PenstockError, ProviderError, Superseded
from penstock.core.retry import CALL
from penstock.kafka.connection import TRANSIENT as KAFKA_TRANSIENT
from penstock.postgres.database import TRANSIENT as POSTGRES_TRANSIENT
from penstock.postgres.database import database_away
from penstock.telemetry import metrics

TRANSIENT = (*KAFKA_TRANSIENT, *POSTGRES_TRANSIENT, ProviderError, Superseded)
"""What passes by itself: a round that met it is tried again."""

log = structlog.get_logger()

TRACE_LENGTH = 4000
PART_FAILED_SECONDS = 5.0
"""A round that could not do a part of its work is not the cause of hundreds of log lines a minute."""


class Stage(ABC):
    """A part of the service with a life of its own.

    `run` ends soon after `drain` is set. `round` may raise; what is not transient is logged as an error, and the
    next round starts from Postgres all the same: nothing in memory is needed to go on.
    """

    name: str

    def __init__(self, drain: asyncio.Event) -> None:
        self.drain = drain
        self.failures = 0
        self.part_failed = False

    @abstractmethod
    async def round(self) -> float:
        """Do what there is to do; returns the seconds until there may be more (0: at once)."""

    async def run(self) -> None:
        """Rounds until the drain."""
        try:
            while not self.drain.is_set():
                await self.pause(await self.guarded_round())
        finally:
            await self.close()

    async def guarded_round(self) -> float:
        """A round that never raises; returns the pause after it."""
        self.part_failed = False
        try:
            pause = await self.round()
        except ConfigurationError:
            raise
        except (Exception, asyncio.CancelledError) as error:  # a stage outlives what it does not know
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise  # we are meant; a cancellation of its own that a client lets out is a failure like any other
            self.failures += 1
            metrics.stage_failures.labels(self.name).inc()
            passing = isinstance(error, TRANSIENT)
            report = log.warning if passing else log.error
            report(
                "stage.round_failed",
                stage=self.name,
                error=describe(error),
                failures=self.failures,
                trace=None if passing else trace(error),
            )
            return CALL.delay_seconds(self.failures, random.random())  # noqa: S311 - jitter
        self.failures = 0
        return max(pause, PART_FAILED_SECONDS) if self.part_failed else pause

    @contextlib.contextmanager
    def apart(self, **what: str) -> Iterator[None]:
        """Log what goes wrong with one of several, and go on with the others; without the database none can."""
        try:
            yield
        except Superseded as error:
            log.info("stage.part_superseded", stage=self.name, reason=str(error), **what)
        except Exception as error:
            if database_away(error):
                raise
            self.part_failed = True
            metrics.stage_failures.labels(self.name).inc()
            log.error("stage.part_failed", stage=self.name, error=describe(error), trace=trace(error), **what)  # noqa: TRY400 - no texts of others

    def progressed(self) -> None:
        """Say that something was achieved."""
        metrics.stage_progress.labels(self.name).set(time.time())

    async def pause(self, seconds: float) -> None:
        """Wait, but not past the drain."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.drain.wait()

    async def close(self) -> None:  # noqa: B027 - most stages hold nothing
        """Release what the stage holds; safe to call twice."""


def trace(error: BaseException) -> str:
    """Where an error came from: frames alone, since its own text may quote what it failed on."""
    return "".join(traceback.format_tb(error.__traceback__))[-TRACE_LENGTH:]


def describe(error: BaseException) -> str:
    """An error in a log line: its kind, and its text when the text is ours (others may quote a request)."""
    if isinstance(error, PenstockError):
        return str(error)
    return type(error).__name__ if isinstance(error, ValueError) else f"{type(error).__name__}: {str(error)[:200]}"
