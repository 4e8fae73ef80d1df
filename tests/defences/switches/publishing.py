"""Slots, the ledger and transactions."""

import os
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaConsumer

import penstock.core.publication
import penstock.kafka.ledger
import penstock.stages.publisher
import penstock.stages.slot
from penstock.core.batch import BatchState
from penstock.core.chunk import Headers, Manifest
from penstock.core.errors import UnknownFormat
from penstock.core.ledger import LedgerRecord, decode_ledger
from penstock.core.publication import Publication, Record
from penstock.kafka.ledger import read_ledger
from penstock.kafka.result_producer import ResultProducer
from penstock.postgres.batch_row import BatchRow
from penstock.postgres.publisher_store import Known, PublisherStore
from penstock.stages.lease import Lease
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

    async def read_then_run(self: SlotSession, *given: Any) -> int:
        topic = self.tools.kafka.ledger_topic
        early[self.slot] = await read_ledger(self.tools.kafka, topic, self.slot, self.client_id, 60.0)
        return await run(self, *given)

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


@defence("P2")
def ledger_end(patch: Patch) -> None:
    """The ledger's end is the last one that read_committed shows, before any open transaction."""

    def committed_end(*given: Any, **options: Any) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(*given, **{**options, "isolation_level": "read_committed"})

    patch.setattr(penstock.kafka.ledger, "AIOKafkaConsumer", committed_end)


@defence("P4")
def transaction_bounds(patch: Patch) -> None:
    """A transaction holds whatever a batch has."""
    build = SlotSession.__init__

    def boundless(self: SlotSession, slot: int, lease: Lease, producer: ResultProducer, *others: Any) -> None:
        build(self, slot, lease, producer, *others)
        endless = {"transaction_records_max": 10**9, "transaction_bytes_max": 10**12}
        self.tools = replace(self.tools, settings=self.tools.settings.model_copy(update=endless))

    patch.setattr(SlotSession, "__init__", boundless)


@defence("P5")
def ledger_key_after_mark(patch: Patch) -> None:
    """The ledger's key goes when the last result is committed, before the mark."""
    mark = PublisherStore.mark
    publish = SlotSession.publish

    async def clear_and_publish(self: SlotSession, batch: BatchRow, *given: Any) -> None:
        async def clear_first(store: PublisherStore, *args: Any, **options: Any) -> None:
            await self.begin()
            await self.write_ledger([(batch.id.hex.encode(), None)])
            await self.commit()
            await mark(store, *args, **options)

        with patch.context() as early:
            early.setattr(PublisherStore, "mark", clear_first)
            await publish(self, batch, *given)

    patch.setattr(SlotSession, "publish", clear_and_publish)


@defence("P6", 5)
def ledger_unknown_batch(patch: Patch) -> None:
    """A batch of the ledger that Postgres does not know is passed over."""
    known = PublisherStore.known

    async def anyway(self: PublisherStore, lease: Lease, ledger: Mapping[uuid.UUID, LedgerRecord]) -> Any:
        rows = {each: Known(BatchState.PUBLISHED, record.decision_id) for each, record in ledger.items()}
        found, answered = await known(self, lease, ledger)
        return rows | found, answered

    patch.setattr(PublisherStore, "known", anyway)


@defence("P6", 5)
def ledger_other_decision(patch: Patch) -> None:
    """The ledger's word counts for whatever decision of a batch."""
    known = PublisherStore.known

    async def any_decision(self: PublisherStore, lease: Lease, ledger: Mapping[uuid.UUID, LedgerRecord]) -> Any:
        rows, answered = await known(self, lease, ledger)
        return {each: row._replace(decision_id=ledger[each].decision_id) for each, row in rows.items()}, answered

    patch.setattr(PublisherStore, "known", any_decision)


@defence("P6", 5)
def ledger_behind(patch: Patch) -> None:
    """The ledger is believed, also when it is behind what Postgres saw committed."""

    async def nothing(*_: object) -> dict[uuid.UUID, int]:
        return {}

    patch.setattr(PublisherStore, "expected", nothing)


@defence("Identity")
def ledger_format(patch: Patch) -> None:
    """A ledger record of another format says nothing, and the batch that it names need not be known."""

    def nothing(key: bytes, value: bytes) -> LedgerRecord:
        try:
            return decode_ledger(key, value)
        except UnknownFormat:
            return LedgerRecord(uuid.UUID(hex=key.decode()), uuid.UUID(int=0), 0)

    patch.setattr(penstock.kafka.ledger, "decode_ledger", nothing)
    ledger_unknown_batch(patch)


@defence("P7")
def every_slot(patch: Patch) -> None:
    """Publishers lease the slots that are configured."""
    slots_with_work = PublisherStore.slots_with_work

    async def configured(self: PublisherStore, *given: float) -> list[int]:
        slots = int(os.environ["PENSTOCK_PUBLISHER_SLOTS"])
        return [slot for slot in await slots_with_work(self, *given) if slot < slots]

    patch.setattr(PublisherStore, "slots_with_work", configured)


@defence("P8", 17)
def oversize_result(patch: Patch) -> None:
    """A result is sent whatever its size."""
    patch.setattr(penstock.core.publication, "record_bytes", lambda *_: 0)


@defence("P8", 17)
def refused_size(patch: Patch) -> None:
    """A record that the broker refuses for its size is sent again as it is."""
    publication = SlotSession.publication

    def as_ever(self: SlotSession, *given: Any) -> Publication:
        self.tools.refused_sizes.clear()
        return publication(self, *given)

    patch.setattr(SlotSession, "publication", as_ever)


@defence("P8", 17)
def dead_letter_cut(patch: Patch) -> None:
    """A dead letter too large for its topic is sent whole."""

    def whole(self: Publication, manifest: Manifest, index: int, code: str, value: bytes, headers: Headers) -> Record:
        return Record(self.dead_letter_topic, manifest.keys[index], value, headers, code)

    patch.setattr(Publication, "dead_letter", whole)


@defence("P8")
def parked_and_waits(patch: Patch) -> None:
    """A batch whose topic refuses is neither parked nor does it wait (either alone suffices)."""

    async def stay(*_: object) -> None:
        return

    patch.setattr(PublisherStore, "park", stay)
    patch.setattr(SlotSession, "wait", lambda *_: None)
