"""What intake takes in and what it leaves to Kafka, and where results go: two request topics, three result topics."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.admin import NewPartitions

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import WAIT_SECONDS, open_bridge
from tests.support.conversation import Conversation, chats
from tests.support.request import CANARY, chat, line
from tests.support.stack import admin_client

BACKLOG_BYTES = 20_000
"""Less than 30 requests take."""
PAUSED = "penstock_backlog_paused"
LANES = """
result_topics = ["{second}"]

[defaults]
age_max_seconds = 0.3

[[lane]]
model = "own-topic"
result_topic = "{first}"

[backlog_bytes_max]
"{requests}" = {bytes}
"""


@pytest.fixture(scope="module")
async def talk(
    kafka: EmbeddedKafka,
    postgres: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
    defences_off: tuple[str, ...],
) -> AsyncIterator[Conversation]:
    folder = tmp_path_factory.mktemp("bounds")
    settings: dict[str, Any] = {"kafka_metadata_seconds": 1, "intake_requests_max": 50, "intake_linger_seconds": 0.2}
    async with open_bridge(
        kafka, postgres, folder, partitions=1, more_requests=1, more_results=2, defences_off=defences_off
    ) as bridge:
        first, second = bridge.more_results
        bridge.lanes.write_text(LANES.format(first=first, second=second, requests=bridge.requests, bytes=BACKLOG_BYTES))
        async with bridge.service(**settings) as service:
            yield Conversation(bridge, service)


def large(number: int) -> dict[str, Any]:
    """A request that does not compress."""
    messages = [{"role": "user", "content": f"{CANARY} {secrets.token_hex(1000)}"}]
    return line(f"large-{number}", "/v1/chat/completions", "slow", messages=messages)


@pytest.mark.outcome("backlog")
async def test_a_full_backlog_pauses_its_topic_alone_until_there_is_room(talk: Conversation) -> None:
    bridge, service, (second,) = talk.bridge, talk.service, talk.bridge.more_requests
    await bridge.sql("INSERT INTO pause (kind, name, reason) VALUES ('lane', 'slow', 'a test')")
    await bridge.produce([large(number) for number in range(30)])
    assert bridge.requests in (await service.logged("topics.paused"))["topics"]
    assert (await service.metric(PAUSED, topic=bridge.requests), await service.metric(PAUSED, topic=second)) == (1, 0)
    await bridge.produce([large(number) for number in range(30, 40)])
    await bridge.produce([chat(f"other-{number}") for number in range(5)], topic=second)
    await talk.answers([f"other-{number}" for number in range(5)])
    await service.reached("penstock_consumer_lag_records", 10, topic=bridge.requests)
    assert await service.metric("penstock_requests_received_total", topic=bridge.requests) == 30
    await bridge.sql("DELETE FROM pause")
    await talk.answers([f"large-{number}" for number in range(40)])
    assert [bool(each["topics"]) for each in service.logs("topics.paused")][:2] == [True, False]
    await talk.check()


@pytest.mark.outcome("partitions-added")
async def test_a_partition_added_while_running_is_consumed_from_its_first_record(talk: Conversation) -> None:
    bridge = talk.bridge
    await talk.service.reached("penstock_partitions_assigned", 2)  # it is ready before it has joined
    before = await talk.service.metric("penstock_partitions_assigned")
    async with admin_client(bridge.kafka) as admin:
        await admin.create_partitions({bridge.requests: NewPartitions(total_count=3)})
    async with asyncio.timeout(WAIT_SECONDS):
        while len(await bridge.producer.partitions_for(bridge.requests)) < 3:
            await bridge.producer.client.force_metadata_update()
    lines = [chat(f"added-{number}") for number in range(6)]
    for partition in (1, 2):
        await bridge.produce(lines[partition - 1 :: 2], partition=partition)
    await talk.answers([each["custom_id"] for each in lines])
    assert await talk.service.metric("penstock_partitions_assigned") == before + 2
    await talk.check()


async def test_a_lane_or_a_header_names_the_result_topic(talk: Conversation) -> None:
    bridge = talk.bridge
    of_lane, of_header = bridge.more_results
    await bridge.produce(chats("own-topic", 2))
    headers = [("penstock-result-topic", of_header.encode())]
    await bridge.produce([chat("by-header", model="own-topic")], headers=headers)
    await bridge.produce([chat("nowhere")], headers=[("penstock-result-topic", b"elsewhere")])
    assert {each.custom_id for each in await bridge.received(of_lane, 2, WAIT_SECONDS)} == {
        "own-topic-0",
        "own-topic-1",
    }
    assert [each.custom_id for each in await bridge.received(of_header, 1, WAIT_SECONDS)] == ["by-header"]
    [letter] = await bridge.dead_letters(1)
    assert letter.header("penstock.error.code") == "result_topic_not_allowed"
    await talk.check()
