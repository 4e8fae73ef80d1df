"""A partition's log that lost records and was filled again past the stored position: nothing is skipped silently."""

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import Bridge, open_bridge, opened_producer
from tests.support.command import penstock
from tests.support.crash import until
from tests.support.cut_log import cut_log
from tests.support.request import chat
from tests.support.service import Service
from tests.support.stack import running

CUT = 4


@pytest.fixture(scope="module")
async def kafka() -> AsyncIterator[EmbeddedKafka]:
    """A broker whose logs are cut on disk."""
    async with running(EmbeddedKafka) as server:
        yield server


@pytest.fixture
async def bridge(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path, defences_off: tuple[str, ...]
) -> AsyncIterator[Bridge]:
    async with open_bridge(kafka, postgres, tmp_path, partitions=1, defences_off=defences_off) as opened:
        yield opened


async def refill(bridge: Bridge, count: int) -> None:
    """Cut the log, and let new messages take the offsets of the lost ones."""
    await bridge.kafka.stop()
    cut_log(bridge.kafka, bridge.requests, 0, CUT)
    await bridge.kafka.start()
    async with opened_producer(bridge.kafka) as producer:  # the broker no longer knows where the other one was
        sent = [
            await producer.send_and_wait(bridge.requests, json.dumps(chat(f"new-{n}")).encode()) for n in range(count)
        ]
    assert sent[0].offset == CUT


@pytest.mark.defence("truncation_seen")
@pytest.mark.outcome("log-replaced")
async def test_a_log_that_was_cut_and_filled_again_halts_and_goes_on_as_a_new_incarnation(bridge: Bridge) -> None:
    """Off: the new messages before the position are never answered."""
    async with bridge.service():
        for number in range(10):  # each in a record batch of its own, where the log can be cut
            await bridge.produce([chat(f"old-{number}")])
        await bridge.results(10)
    await refill(bridge, 14)
    async with bridge.service() as service:
        halt = await halted_or_answered(bridge, service, 10)
        assert halt, "messages before the position were skipped, and nobody told"
        assert "cut at offset 4: the messages that were taken from offsets 4 to 9 are lost" in halt["reason"]
        assert halt["mend"] == f"penstock resume partition {bridge.requests} 0"
    resumed = await penstock(bridge.environment(), "resume", "partition", bridge.requests, 0, "--yes")
    assert resumed.code == 0, resumed
    assert "incarnation 1 of the partition begins" in resumed.out
    assert resumed.out.endswith(f"goes on at {CUT} within a minute\n")
    async with bridge.service() as service:
        results = await bridge.results(24)
        assert not service.logs("partition.halted")
    ids = {each.header("penstock-result-id") for each in results}
    assert len(ids) == len({each.custom_id for each in results}) == 24
    assert sum("/0~1/" in each for each in ids) == 14


@pytest.mark.long
async def test_a_log_that_is_cut_under_a_running_service_halts_before_anything_is_stored(bridge: Bridge) -> None:
    async with bridge.service(kafka_session_seconds=30) as service:
        for number in range(6):
            await bridge.produce([chat(f"old-{number}")])
        await bridge.results(6)
        await refill(bridge, 14)
        halt = await service.logged("partition.halted", timeout_seconds=60)
        assert "offsets 4 to 5 are lost" in halt["reason"]
    assert {row["position"] for row in await bridge.sql("SELECT position FROM position")} == {6}


@pytest.mark.defence("span_confirmed")
async def test_a_log_that_is_cut_and_filled_again_between_two_fetches_halts_before_anything_is_stored(
    bridge: Bridge,
) -> None:
    """Off: what was fetched behind the new messages is stored, and those before the position are never answered."""
    async with bridge.service(kafka_session_seconds=30) as service:
        for number in range(6):
            await bridge.produce([chat(f"old-{number}")])
        await bridge.results(6)
        service.send(signal.SIGSTOP)  # it notices nothing, and fetches on from 6
        await refill(bridge, 14)
        service.wake()
        halted = await halted_or_answered(bridge, service, 6)
        assert halted, "messages before the position were skipped, and nobody told"
        assert "offsets 4 to 5 are lost" in halted["reason"]


async def halted_or_answered(bridge: Bridge, service: Service, before: int) -> Any:
    """Wait until the partition halts or more results come; the halt, if there was one."""

    async def acted() -> bool:
        return bool(service.logs("partition.halted")) or len(bridge.reader.received[bridge.result_topic]) > before

    await until(acted)
    return next(iter(service.logs("partition.halted")), None)


@pytest.mark.long
async def test_a_broker_that_restarts_without_loss_halts_nothing(bridge: Bridge) -> None:
    async with bridge.service(kafka_session_seconds=30) as service:
        await bridge.produce([chat("before")])
        await bridge.results(1)
        await bridge.kafka.restart()
        await bridge.produce([chat("after")])
        await bridge.results(2)
        assert not service.logs("partition.halted")
        await bridge.check()
    rows = await bridge.sql("SELECT position, leader_epoch_at, leader_epoch FROM position")
    assert [row["position"] == row["leader_epoch_at"] for row in rows] == [True]
    assert rows[0]["leader_epoch"] > 0
    told = "1 partitions have a position without a leader epoch"
    assert told not in (await penstock(bridge.environment(), "check")).out
    await bridge.sql("UPDATE position SET position = 1")  # as a replica does that knows no epochs
    assert told in (await penstock(bridge.environment(), "check")).out
