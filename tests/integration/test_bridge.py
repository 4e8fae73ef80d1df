"""The service between a real Kafka, a real Postgres and the simulator; the checker judges every run."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import LANES, Bridge, open_bridge
from tests.support.live_reader import Received
from tests.support.request import chat, embedding, moderation

TAKEOVER_SECONDS = 40.0
"""The broker keeps a dead member's partitions for its session time, and a new member may have to join twice."""


def origin(result: Received) -> tuple[int, int]:
    """Partition and offset of the request."""
    _, _, partition, offset = result.header("penstock-result-id").split("/")
    return int(partition), int(offset)


def runs(results: Iterable[Received]) -> dict[tuple[str, int, int], list[int]]:
    """The requests' offsets as they were read, by batch, partition of the request and partition of the result."""
    offsets = defaultdict(list)
    for result in results:
        partition, offset = origin(result)
        offsets[result.header("penstock-batch-id"), partition, result.partition].append(offset)
    return offsets


@pytest.mark.outcome("completed", "skipped-status")
async def test_requests_of_three_endpoints_are_answered_once_each(bridge: Bridge) -> None:
    async with bridge.service():
        for partition in range(3):
            lines = [make(f"{make.__name__}-{partition}-{n}") for n in range(20) for make in (chat, moderation)]
            lines += [embedding(f"embedding-{partition}-{n}", inputs=3) for n in range(20)]
            await bridge.produce(lines, partition=partition)
        await bridge.results(180)
        report = await bridge.check()
    assert (report["results"], report["executions"], report["seen"]) == (180, 180, 180)
    assert report["statuses"] == {"200": 180}


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.outcome("shuffled")
async def test_results_of_a_batch_come_in_the_order_of_its_requests(bridge: Bridge, keyed: bool) -> None:
    async with bridge.service(intake_linger_seconds=1):
        keys = [b"key %d" % (n % 5) if keyed else None for n in range(150)]
        await asyncio.gather(*(bridge.produce([chat(f"request-{n}")], key=key) for n, key in enumerate(keys)))
        results = await bridge.results(150)
        await bridge.check()
    ordered = runs(results)
    assert max(map(len, ordered.values())) >= 10
    assert all(offsets == sorted(offsets) for offsets in ordered.values())
    if keyed:
        places = {(result.key, result.partition) for result in results}
        assert len(places) == len({key for key, _ in places}) == 5


async def test_a_result_carries_the_custom_id_the_key_and_the_allowed_headers(bridge: Bridge) -> None:
    sent = [("x-trace", b"7"), ("tenant", b"north"), ("private", b"stays here")]
    line = {**chat("ignored"), "custom_id": 'über "quoted" \u2028 id'}
    async with bridge.service():
        [(partition, offset)] = await bridge.produce([line], key=b"\x00key", headers=sent)
        [result] = await bridge.results(1)
        await bridge.check()
    assert result.json["custom_id"] == line["custom_id"]
    assert result.key == b"\x00key"
    assert {name: result.headers.get(name) for name, _ in sent} == {
        "x-trace": b"7",
        "tenant": b"north",
        "private": None,
    }
    assert origin(result) == (partition, offset)
    assert result.header("penstock-attempt") == "1"


@pytest.mark.outcome("body-pretty")
async def test_a_body_written_over_several_lines_is_sent_as_it_is(bridge: Bridge) -> None:
    pretty = [
        json.dumps(chat(f"pretty-{n}"), indent=2).replace("\n", ending).encode()
        for n, ending in [(0, "\n"), (1, "\r\n")]
    ]
    async with bridge.service():
        await bridge.produce(pretty)
        await bridge.results(2)
        assert (await bridge.check())["unjudged"] == 0


@pytest.mark.outcome("bad-lane")
async def test_requests_beyond_the_lane_limit_come_back(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with open_bridge(kafka, postgres, tmp_path, lanes="lanes_max = 1\n" + LANES) as bridge, bridge.service():
        await bridge.produce([chat("first", model="first")], partition=0)
        await bridge.results(1)
        sent = [chat("second", model="second"), chat("again", model="first")]
        headers = [("x-trace", b"7"), ("private", b"\xfe")]
        await bridge.produce(sent, partition=0, headers=headers)
        [letter] = await bridge.dead_letters(1)
        await bridge.results(2)
        assert letter.header("penstock.error.code") == "lane_limit"
        assert letter.value == json.dumps(sent[0]).encode()
        assert letter.headers.items() >= dict(headers).items()
        await bridge.check()


async def test_two_replicas_share_the_work(bridge: Bridge) -> None:
    async with bridge.service() as one, bridge.service() as other:
        for each in (one, other):
            await each.reached("penstock_partitions_assigned", 1)
        for partition in range(3):
            await bridge.produce([chat(f"{partition}-{n}") for n in range(100)], partition=partition)
        await bridge.results(300)
        received = [await each.metric("penstock_requests_received_total") for each in (one, other)]
        await bridge.check()
    assert sum(received) == 300
    assert min(received) >= 100


async def test_sigterm_drains_and_the_next_replica_goes_on(bridge: Bridge) -> None:
    await bridge.simulator.faults([{"batch": {"seconds": {"in_progress": 1}}}])
    async with bridge.service(drain_seconds=30, lease_seconds=10) as first:
        await bridge.produce([chat(f"request-{n}") for n in range(200)])
        await first.reached("penstock_batches_submitted_total", 1)
        assert await first.stop() == 0
        assert first.logs("service.stopped")
        assert not [each for each in first.logs() if each["level"] == "error"]
    async with bridge.service():
        await bridge.produce([chat(f"later-{n}") for n in range(100)])
        await bridge.results(300)
        await bridge.check()


async def test_the_work_of_a_killed_replica_is_taken_over(bridge: Bridge) -> None:
    await bridge.simulator.faults([{"batch": {"seconds": {"in_progress": 1}}}])
    async with bridge.service() as first, bridge.service() as second:
        for each in (first, second):
            await each.reached("penstock_partitions_assigned", 1)
        for n in range(20):
            await bridge.produce([chat(f"request-{n}-{index}") for index in range(20)])
            if n == 10:
                await first.kill()
        await bridge.results(400, TAKEOVER_SECONDS)
        await bridge.check()
    assert second.returncode == 0


KILLS = (
    "intake.store=after:kill",
    "batches.create=before:kill",
    "batches.create=after:kill",
    "publisher.send=after:kill",
    "publisher.commit=before:kill",
    "publisher.commit=after:kill",
)


@pytest.mark.parametrize("failpoint", KILLS)
async def test_a_replica_that_dies_at_a_crash_point_loses_and_doubles_nothing(bridge: Bridge, failpoint: str) -> None:
    async with bridge.service(failpoints=failpoint) as first:
        await bridge.produce([chat(f"request-{n}") for n in range(50)])
        assert await first.exited() == -9
    async with bridge.service():
        await bridge.results(50)
        await bridge.check()
