"""The publisher: leases slots that have work, several at a time, and runs a session for each."""

import asyncio
import time
import uuid

import structlog

from penstock.core.errors import Halted, UnknownFormat
from penstock.core.identity import transactional_id
from penstock.kafka.result_producer import ResultProducer
from penstock.stages.census import Census
from penstock.stages.lease import Lease, LeaseKeeper
from penstock.stages.slot import SlotSession
from penstock.stages.slot_tools import SlotTools
from penstock.stages.stage import TRANSIENT, Stage, describe
from penstock.telemetry import metrics

log = structlog.get_logger()

IDLE_SECONDS = 0.5
HALT_SECONDS = 60.0
"""A halted slot is looked at again after this; it goes on when an operator has mended what it met."""
FAILURE_SECONDS = 2.0


class Publisher(Stage):
    """Collects and publishes; publishers lease every slot that has unpublished batches (P7)."""

    name = "publisher"

    def __init__(
        self,
        drain: asyncio.Event,
        keeper: LeaseKeeper,
        census: Census,
        tools: SlotTools,
        *,
        deployment: str,
        replica: uuid.UUID,
    ) -> None:
        super().__init__(drain)
        self.keeper = keeper
        self.census = census
        self.tools = tools
        self.deployment = deployment
        self.replica = replica
        self.sessions: dict[int, asyncio.Task[None]] = {}
        self.waiting: dict[int, float] = {}
        self.halted: set[int] = set()

    async def round(self) -> float:
        """Lease slots with work, up to the number that this replica works at a time."""
        for slot in [slot for slot, task in self.sessions.items() if task.done()]:
            self.sessions.pop(slot).result()
        room = self.tools.settings.slots_held_max - len(self.sessions)
        started = False
        if room > 0 and not self.drain.is_set() and await self.census.trusts():
            now = time.monotonic()
            slots = await self.tools.store.slots_with_work(self.tools.ledger_grace_seconds)
            self.halted.intersection_update(slots)
            for slot in slots:
                if slot in self.sessions or self.waiting.get(slot, 0.0) > now or room <= 0:
                    continue
                lease = await self.keeper.acquire(f"slot/{slot}")
                if lease is None:
                    self.halted.discard(slot)  # what it is now, its holder says
                    continue
                self.sessions[slot] = asyncio.create_task(self.hold(slot, lease))
                room -= 1
                started = True
        metrics.slots_held.set(len(self.sessions))
        metrics.slots_halted.set(len(self.halted))
        if self.sessions and not started:
            await asyncio.wait(self.sessions.values(), timeout=IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            return 0.0
        return IDLE_SECONDS

    async def hold(self, slot: int, lease: Lease) -> None:
        """One session of a slot; whatever ends it, the next one starts from the ledger."""
        producer = ResultProducer(
            self.tools.kafka,
            transactional_id(self.deployment, slot),
            self.tools.settings.transaction_timeout_seconds,
            min(self.tools.limits.values()),
        )
        session = SlotSession(slot, lease, producer, f"penstock-{self.replica.hex[:8]}", self.tools)
        self.waiting[slot] = time.monotonic() + FAILURE_SECONDS
        async with self.keeper.holding(lease):
            try:
                finished = await session.run(self.drain, self.progressed)
            except (Halted, UnknownFormat) as error:
                if isinstance(error, UnknownFormat):
                    metrics.formats_unknown.labels(error.kind).inc()
                self.waiting[slot] = time.monotonic() + HALT_SECONDS
                self.halted.add(slot)
                fix = error.fix if isinstance(error, Halted) else "upgrade this replica: a newer version wrote it"
                log.error("slot.halted", slot=slot, reason=str(error), fix=fix)  # noqa: TRY400 - no trace helps
            except TRANSIENT as error:
                metrics.producers_fenced.inc()
                metrics.transactions_aborted.inc(session.open)
                log.warning("slot.lost", slot=slot, error=describe(error))
            else:
                self.waiting[slot] = time.monotonic() + (0.0 if finished else FAILURE_SECONDS)
                self.halted.discard(slot)

    async def close(self) -> None:
        """Let open transactions come to their end; sessions see the drain between batches."""
        if self.sessions:
            await asyncio.wait(self.sessions.values())
