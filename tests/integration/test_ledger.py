"""What the ledger says against what Postgres says, and how much a transaction holds (P2, P4, P6, P7; crash point 5)."""

import asyncio
import uuid
from collections.abc import Iterable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from penstock.core.ledger import LedgerRecord, decode_ledger, encode_ledger
from tests.support.bridge import SLOTS, Bridge
from tests.support.crash import REST, answered, chats, settled, until
from tests.support.service import Service, started

COUNT = 20


async def forge(bridge: Bridge, slots: Iterable[int], key: bytes, value: bytes | None) -> None:
    """Write a record to partitions of the ledger."""
    for slot in slots:
        await bridge.producer.send_and_wait(bridge.ledger, value, key=key, partition=slot)


async def killed_at(bridge: Bridge, failpoint: str) -> tuple[uuid.UUID, int]:
    """One batch whose publisher was killed at a failpoint: its id and slot."""
    async with bridge.service(failpoints=f"{failpoint}:kill", intake_linger_seconds=1) as first:
        await bridge.produce(chats(COUNT), partition=0)
        assert await first.exited() == -9
    [(batch_id, slot)] = await bridge.sql("SELECT id, slot FROM batch")
    return batch_id, slot


async def halted_or_published(bridge: Bridge, service: Service, before: int) -> bool:
    """Wait until the slot halts or goes on; whether it halted."""

    async def acted() -> bool:
        more = len(bridge.reader.received[bridge.result_topic]) > before
        return bool(halts(service) or service.logs("batch.published")) or more

    await until(acted)
    return bool(halts(service))


def halts(service: Service) -> list[dict[str, Any]]:
    """That a slot halted, or all of them, since Postgres lost data."""
    return [*service.logs("slot.halted"), *service.logs("data.lost")]


@pytest.mark.defence("ledger_unknown_batch")
@pytest.mark.outcome("ledger-unknown")
async def test_a_slot_halts_when_the_ledger_names_a_batch_that_postgres_does_not_know(bridge: Bridge) -> None:
    """Crash point 5: Postgres was restored to an earlier time. Off: such a record is passed over."""
    await forge(bridge, range(SLOTS), *encode_ledger(LedgerRecord(uuid.uuid4(), uuid.uuid4(), 5)))
    async with bridge.service() as service:
        await bridge.produce(chats(COUNT))
        assert await halted_or_published(bridge, service, 0), "it went on, although Postgres lost data"
    assert not bridge.reader.received[bridge.result_topic]


@pytest.mark.defence("ledger_other_decision")
@pytest.mark.outcome("ledger-unknown")
async def test_a_slot_halts_when_the_ledger_holds_another_decision_of_a_batch(bridge: Bridge) -> None:
    """Crash point 5: Postgres was restored, and the batch decided anew. Off: only the batch is looked at."""
    batch_id, slot = await killed_at(bridge, "publisher.begin=before")
    await forge(bridge, [slot], *encode_ledger(LedgerRecord(batch_id, uuid.uuid4(), COUNT)))
    async with bridge.service(stages=REST) as service:
        halted = await halted_or_published(bridge, service, 0)
    assert halted, "the batch was marked as published, of which nothing is"


@pytest.mark.defence("ledger_behind")
@pytest.mark.outcome("ledger-lost")
async def test_a_slot_halts_when_the_ledger_lost_what_postgres_saw_committed(bridge: Bridge) -> None:
    """Off: the ledger is believed, and what it lost is published again."""
    batch_id, slot = await killed_at(bridge, "publisher.mark=before")
    await bridge.results(COUNT)
    await forge(bridge, [slot], batch_id.hex.encode(), None)
    async with bridge.service(stages=REST) as service:
        assert await halted_or_published(bridge, service, COUNT), "what was published is published again"
    assert len(bridge.reader.received[bridge.result_topic]) == COUNT


@pytest.mark.defence("ledger_end")
async def test_the_ledger_is_read_past_a_transaction_that_somebody_has_open(bridge: Bridge) -> None:
    """A stray writer's transaction hides the slot's own record. Off: the end that read_committed shows is enough."""
    failpoints = "publisher.begin=before:pause;publisher.commit=after:kill"
    stray = AIOKafkaProducer(bootstrap_servers=bridge.kafka.bootstrap_servers, transactional_id=bridge.deployment)
    async with stray, started(bridge.service(failpoints=failpoints, intake_linger_seconds=1)) as first:
        await bridge.produce(chats(COUNT), partition=0)
        await first.paused()
        await stray.begin_transaction()
        for slot in range(SLOTS):
            await stray.send_and_wait(bridge.ledger, b"{}", key=b"stray", partition=slot)
        first.wake()
        assert await first.exited() == -9
        await bridge.results(COUNT)
        async with bridge.service(stages=REST) as service:

            async def taken_over() -> bool:
                return bool(await service.metric("penstock_slots_held"))

            await until(taken_over)
            await asyncio.sleep(2)  # what a session needs that does not wait for the stray transaction
            await stray.abort_transaction()
            await settled(bridge, COUNT)


async def ledger_positions(bridge: Bridge) -> list[int]:
    """The positions that the ledger holds, in the order in which they were committed."""
    places = [TopicPartition(bridge.ledger, slot) for slot in range(SLOTS)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bridge.kafka.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",  # a seek can be overtaken by the first look for the end
    )
    consumer.assign(places)
    found = []
    async with consumer:
        ends = await consumer.end_offsets(places)
        for place, end in ends.items():
            while await consumer.position(place) < end:
                records = (await consumer.getmany(place, timeout_ms=200)).get(place, [])
                found += [decode_ledger(each.key, each.value).next_position for each in records]
    return found


@pytest.mark.defence("transaction_bounds")
@pytest.mark.parametrize("bound", [{"records_max": 1}, {"bytes_max": 1024}], ids=["records", "bytes"])
async def test_a_transaction_closes_at_its_bounds(bridge: Bridge, bound: dict[str, int]) -> None:
    """Off: a batch is one transaction, which the broker aborts when it takes too long."""
    bridge.lanes.write_text("[defaults]\nage_max_seconds = 1.5\n")
    settings: dict[str, Any] = {f"publisher_transaction_{name}": value for name, value in bound.items()}
    async with bridge.service(intake_requests_max=10, **settings):
        await bridge.produce(chats(30), partition=0)
        await settled(bridge, 30)
    [(batches,)] = await bridge.sql("SELECT count(*) FROM batch")
    positions = await ledger_positions(bridge)
    assert len(positions) >= 3, f"{batches} batches of 30 results were committed in {len(positions)} transactions"


@pytest.mark.defence("every_slot")
async def test_the_batches_of_a_slot_that_is_no_more_are_published(bridge: Bridge) -> None:
    """Off: publishers lease slots 0 to n-1, and the number of slots was lowered."""
    async with bridge.service(stages="intake,seal,submit,poll"):
        await bridge.produce(chats(COUNT), partition=0)

        async def ended() -> bool:
            return bool(await bridge.sql("SELECT 1 FROM batch WHERE state = 'ended'"))

        await until(ended)
    await bridge.sql("UPDATE batch SET slot = $1", SLOTS - 1)
    async with bridge.service(stages="collect,publish", publisher_slots=1):
        assert await answered(bridge, COUNT), "nobody publishes the slot"
        await bridge.check()
