"""The service on a cluster of three brokers: a rolling restart, and an election that loses records."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiokafka.admin import NewTopic

from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import Bridge, open_bridge, opened_producer
from tests.support.command import penstock
from tests.support.crash import until
from tests.support.request import chat
from tests.support.stack import admin_client
from tests.support.three_nodes import NODES, ThreeNodes, three_nodes

if TYPE_CHECKING:
    from penstock.embedded.kafka import EmbeddedKafka

LEADER, FOLLOWER = 1, 2
SETTINGS: dict[str, Any] = {"kafka_session_seconds": 30}
KEPT, LOST, NEW = 5, 5, 12


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ThreeNodes]:
    async with three_nodes(tmp_path / "nodes") as nodes:
        yield nodes


@pytest.fixture
async def bridge(cluster: ThreeNodes, postgres: EmbeddedPostgres, tmp_path: Path) -> AsyncIterator[Bridge]:
    async with open_bridge(cast("EmbeddedKafka", cluster), postgres, tmp_path) as opened:
        yield opened


async def in_sync(bridge: Bridge, topic: str) -> list[int]:
    """How many replicas of each partition are in sync."""
    async with admin_client(bridge.kafka) as admin:
        (described,) = await admin.describe_topics([topic])
    return [len(each["isr"]) for each in described["partitions"]]


async def all_in_sync(bridge: Bridge) -> None:
    """Wait until every replica of the deployment's topics is in sync."""
    for topic in (bridge.requests, bridge.result_topic, bridge.ledger, "__consumer_offsets", "__transaction_state"):

        async def full(topic: str = topic) -> bool:
            return set(await in_sync(bridge, topic)) == {len(NODES)}

        await until(full)


async def test_a_rolling_restart_under_traffic_loses_and_doubles_nothing(cluster: ThreeNodes, bridge: Bridge) -> None:
    sent = 0
    over = asyncio.Event()

    async def traffic() -> None:
        nonlocal sent
        while not over.is_set():
            await bridge.produce([chat(f"request-{sent + number}") for number in range(5)])
            sent += 5
            await asyncio.sleep(0.2)

    async with bridge.service(**SETTINGS) as service:
        await bridge.produce([chat("first")])
        await bridge.results(1)
        task = asyncio.create_task(traffic())
        for node in cluster.nodes.values():
            await all_in_sync(bridge)
            await node.restart()
        over.set()
        await task
        await bridge.results(sent + 1, timeout_seconds=120)
        assert not service.logs("partition.halted")
        await bridge.check()


async def test_an_unclean_election_halts_the_partition_and_loses_no_new_message(
    cluster: ThreeNodes, bridge: Bridge
) -> None:
    bridge.requests = "requests-unclean"
    unclean = {"unclean.leader.election.enable": "true", "min.insync.replicas": "1"}
    async with admin_client(bridge.kafka) as admin:
        new = NewTopic(bridge.requests, -1, -1, replica_assignments={0: [LEADER, FOLLOWER]}, topic_configs=unclean)
        assert [each[1] for each in (await admin.create_topics([new])).topic_errors] == [0]
    async with bridge.service(**SETTINGS) as service:
        await send(bridge, "kept", KEPT)
        await bridge.results(KEPT)
        await cluster.nodes[FOLLOWER].stop()

        async def leader_is_alone() -> bool:
            return await in_sync(bridge, bridge.requests) == [1]

        await until(leader_is_alone)
        await send(bridge, "lost", LOST)
        await bridge.results(KEPT + LOST)
        await cluster.nodes[LEADER].kill()
        await cluster.nodes[FOLLOWER].start()
        offsets = await send(bridge, "new", NEW)
        assert offsets == list(range(KEPT, KEPT + NEW))
        halt = await service.logged("partition.halted", timeout_seconds=120)
        assert f"offsets {KEPT} to {KEPT + LOST - 1} are lost" in halt["reason"]
        resumed = await penstock(bridge.environment(), "resume", "partition", bridge.requests, 0, "--yes")
        assert resumed.code == 0, resumed
    async with bridge.service(**SETTINGS):
        results = await bridge.results(KEPT + LOST + NEW, timeout_seconds=120)
    ids = {each.header("penstock-result-id") for each in results}
    assert len(ids) == len(results) == KEPT + LOST + NEW
    assert sum("/0~1/" in each for each in ids) == NEW


async def send(bridge: Bridge, name: str, count: int) -> list[int]:
    """Send requests with a producer of their own; returns the offsets."""
    async with opened_producer(bridge.kafka) as producer:
        values = [json.dumps(chat(f"{name}-{number}")).encode() for number in range(count)]
        return [(await producer.send_and_wait(bridge.requests, value, partition=0)).offset for value in values]
