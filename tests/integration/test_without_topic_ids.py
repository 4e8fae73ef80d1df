"""Brokers that give no topic ids: two request topics would share their positions."""

from typing import Any

import pytest

from penstock.kafka.topics import TopicClient
from penstock.settings import KafkaSettings
from tests.support.bridge import Bridge
from tests.support.command import penstock
from tests.support.without_ids import without_ids


@pytest.mark.outcome("no-topic-ids")
async def test_brokers_without_topic_ids_are_refused_by_check_and_run(bridge: Bridge) -> None:
    names = [bridge.requests, bridge.result_topic, bridge.dead_letter_topic, bridge.ledger]
    async with TopicClient(KafkaSettings(bootstrap_servers=bridge.kafka.bootstrap_servers), "test") as client:
        ids = [each.id for each in (await client.describe(names)).topics.values()]
    async with without_ids(bridge.kafka.port, ids) as port:
        brokers: dict[str, Any] = {"kafka_bootstrap_servers": f"127.0.0.1:{port}"}
        checked = await penstock(bridge.environment(**brokers), "check", "--only", "kafka", "--output", "json")
        assert checked.code == 1
        assert "the brokers give no topic id for" in checked.out
        service = bridge.service(**brokers)
        await service.start()
        assert await service.exited() != 0
        assert "the brokers give no topic id for" in service.text()
    assert await bridge.sql("SELECT FROM position") == []
