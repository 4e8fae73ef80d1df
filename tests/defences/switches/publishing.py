"""Slots, the ledger and transactions."""

import uuid
from typing import Any

import penstock.stages.publisher
import penstock.stages.slot
from penstock.kafka.ledger import read_ledger
from penstock.kafka.result_producer import ResultProducer
from penstock.stages.slot import SlotSession
from tests.defences.switches.registry import Patch, defence


@defence("P1, P2", 14, 15, 16)
def ledger_read(patch: Patch) -> None:
    """A publisher starts without reading the ledger."""

    async def unread(_: SlotSession) -> None:
        return

    patch.setattr(SlotSession, "read_ledger", unread)


@defence("P3", 15)
def await_sends(patch: Patch) -> None:
    """A transaction is committed without looking at what became of its sends."""

    async def send_the_rest(self: ResultProducer) -> None:
        left, self.builders = self.builders, {}
        for (topic, partition), builder in left.items():
            await self.send(topic, partition, builder)
        self.sends.clear()

    patch.setattr(ResultProducer, "flush", send_the_rest)


@defence("P1", 14, 20)
def producer_first(patch: Patch) -> None:
    """The ledger is read before the slot's producer has started."""
    run = SlotSession.run
    early: dict[int, Any] = {}

    async def read_then_run(self: SlotSession, drain: Any) -> int:
        topic = self.tools.kafka.ledger_topic
        early[self.slot] = await read_ledger(self.tools.kafka, topic, self.slot, self.client_id, 60.0)
        return await run(self, drain)

    async def remember(_: Any, __: str, slot: int, *___: object) -> Any:
        return early.pop(slot)

    patch.setattr(SlotSession, "run", read_then_run)
    patch.setattr(penstock.stages.slot, "read_ledger", remember)


@defence("P1", 20)
def fence(patch: Patch) -> None:
    """Each producer has a transactional id of its own, so that none fences another."""

    def alone(deployment: str, slot: int) -> str:
        return f"penstock-{deployment}-slot-{slot}-{uuid.uuid4().hex}"

    patch.setattr(penstock.stages.publisher, "transactional_id", alone)
