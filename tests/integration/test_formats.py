"""Stored records of a version to come: left alone by this one, reported, and worked on once a version knows them."""

import json

import pytest
import zstandard
from aiokafka import AIOKafkaProducer

from penstock.postgres.database import Database
from penstock.postgres.janitor_store import PAYLOAD, JanitorStore
from tests.support.bridge import Bridge
from tests.support.crash import REST, settled
from tests.support.request import chat
from tests.support.rows import chunk_of, held, migrated, store
from tests.support.service import Service

ENCODE = zstandard.ZstdCompressor().compress
DECODE = zstandard.ZstdDecompressor().decompress


@pytest.mark.defence("chunk_format")
async def test_a_chunk_of_another_format_is_neither_sealed_nor_lost_and_its_lane_goes_on(bridge: Bridge) -> None:
    async with bridge.service(stages="intake") as first:
        await bridge.produce([chat(f"later-{n}") for n in range(5)], partition=0)
        await first.reached("penstock_requests_received_total", 5, topic=bridge.requests, lane="other")
    await bridge.sql("UPDATE chunk SET format = 2")
    async with bridge.service() as second:
        await bridge.produce([chat(f"now-{n}") for n in range(5)], partition=1)
        results = await bridge.results(5)
        assert {each.custom_id[:3] for each in results} == {"now"}
        assert (await second.logged("format.unknown"))["kind"] == "chunk"
        await second.reached("penstock_formats_unknown_total", 1, kind="chunk")
        (waiting,) = await bridge.sql("SELECT taken, requests FROM chunk WHERE format = 2")
        assert tuple(waiting) == (0, 5)
        await bridge.sql("UPDATE chunk SET format = 1")
        await settled(bridge, 10)


async def test_a_chunk_of_another_format_is_copied_forward_by_the_ring(database: str) -> None:
    async with migrated(database) as pool:
        lease, chunk = await held(pool, "janitor"), chunk_of(1)
        await store(pool, chunk)
        async with pool.pool.acquire() as connection:
            await connection.execute("UPDATE chunk SET format = 2")
            turns = await connection.fetchval("SELECT turns FROM ring WHERE name = 'payload'")
        for _ in range(turns + 1):
            assert await JanitorStore(pool).turn(lease, PAYLOAD, 0.0)
            await JanitorStore(pool).truncate(lease, PAYLOAD)
        assert await lines_of(pool) == [chunk.lines]


async def lines_of(pool: Database) -> list[bytes]:
    async with pool.pool.acquire() as connection:
        return [row["lines"] for row in await connection.fetch("SELECT lines FROM payload")]


@pytest.mark.defence("decision_format")
async def test_a_decision_of_another_format_waits_and_its_slot_goes_on(bridge: Bridge) -> None:
    async with bridge.service(failpoints="publisher.commit=before:kill", publisher_slots=1) as first:
        await bridge.produce([chat(f"later-{n}") for n in range(5)], partition=0)
        assert await first.exited() == -9
    ((stored,),) = await bridge.sql("SELECT body FROM decision")
    await bridge.sql("UPDATE decision SET body = $1", in_format(stored, 9))
    async with bridge.service(publisher_slots=1) as second:
        await bridge.produce([chat(f"now-{n}") for n in range(5)], partition=0)
        results = await bridge.results(5)
        assert {each.custom_id[:3] for each in results} == {"now"}
        assert (await second.logged("format.unknown"))["kind"] == "decision"
        await second.reached("penstock_formats_unknown_total", 1, kind="decision")
        assert not failures(second)
        assert len(await bridge.sql("SELECT id FROM decision")) == 2
    await bridge.sql("UPDATE decision SET body = $1 WHERE body = $2", stored, in_format(stored, 9))
    async with bridge.service(stages=REST, publisher_slots=1):
        await settled(bridge, 10)


def failures(service: Service) -> list[str]:
    """What made rounds of the publisher fail: a record that is left alone is none of it."""
    return [each["error"] for each in service.logs("stage.round_failed") if each["stage"] == "publisher"]


def in_format(decision: bytes, number: int) -> bytes:
    """A stored decision under another format's number, which is its first value."""
    packed = bytearray(DECODE(decision))
    assert packed[1] == 1
    packed[1] = number
    return ENCODE(bytes(packed))


@pytest.mark.defence("ledger_format")
async def test_a_ledger_record_of_another_format_halts_its_slot_until_it_is_understood(bridge: Bridge) -> None:
    key, value = b"0" * 32, json.dumps({"format": 2, "place": 7}).encode()
    async with AIOKafkaProducer(bootstrap_servers=bridge.kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(bridge.ledger, value, key=key, partition=0)
        async with bridge.service(publisher_slots=1) as first:
            await bridge.produce([chat(f"request-{n}") for n in range(5)])
            halted = await first.logged("slot.halted")
            assert "ledger" in halted["reason"]
            assert "upgrade" in halted["fix"]
            await first.reached("penstock_formats_unknown_total", 1, kind="ledger")
            await first.reached("penstock_slots_halted", 1)
            assert not failures(first)
            assert not bridge.reader.received[bridge.result_topic]
        await producer.send_and_wait(bridge.ledger, None, key=key, partition=0)
    async with bridge.service(publisher_slots=1):
        await settled(bridge, 5)
