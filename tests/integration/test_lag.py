"""How long Kafka keeps what is unread is told of whatever is unread, also by who has just been started."""

import json

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.support.bridge import Bridge
from tests.support.command import penstock
from tests.support.crash import chats, until
from tests.support.stack import admin_client

HEADROOM = "penstock_retention_headroom_ratio"
DAY_SECONDS = 24 * 3600.0
HOLDS = {
    "paused": "INSERT INTO pause (kind, name, reason) SELECT 'topic', topic, 'a test' FROM position LIMIT 1",
    "halted": "UPDATE position SET halted_reason = 'a test' WHERE partition = 1",
}


@pytest.mark.parametrize("held", list(HOLDS))
async def test_a_replica_that_starts_tells_how_old_is_what_is_held_back(bridge: Bridge, held: str) -> None:
    """Of what was read before its start it knows nothing, and nothing is read after it."""
    async with admin_client(bridge.kafka) as admin:
        kept = {"retention.ms": str(int(DAY_SECONDS * 1000))}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, bridge.requests, kept)])
    async with bridge.service():
        await bridge.produce(chats(1, "before"), partition=1, age_seconds=0.95 * DAY_SECONDS)
        await bridge.results(1)
    await bridge.sql(HOLDS[held])
    await bridge.produce(chats(3, "old"), partition=1, age_seconds=0.9 * DAY_SECONDS)
    await bridge.produce(chats(3, "young"), partition=1)

    async with bridge.service() as service:

        async def told() -> bool:
            return 0.05 < await service.metric(HEADROOM, topic=bridge.requests) < 0.15

        await until(told)


@pytest.mark.long
@pytest.mark.outcome("transaction-open")
async def test_what_a_hanging_transaction_holds_back_is_shown(bridge: Bridge) -> None:
    """Twenty messages of a transaction that is left open, and one after it, cannot be read."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bridge.kafka.bootstrap_servers,
        transactional_id=bridge.requests,
        transaction_timeout_ms=600_000,
    )
    async with bridge.service(), producer:
        await bridge.produce(chats(1, "before"), partition=1)
        await bridge.results(1)
        await producer.begin_transaction()
        for each in chats(20, "open"):
            await producer.send_and_wait(bridge.requests, json.dumps(each).encode(), partition=1)
        await bridge.produce(chats(1, "after"), partition=1)

        async def told() -> bool:
            return "21 of them wait for a producer to commit or abort its transaction" in await shown()

        async def shown() -> str:
            return " ".join((await penstock(bridge.environment(), "status")).out.split())

        await until(told)
        assert "Nothing waits" not in await shown()
        assert "(partition 1)" in await shown()
        await producer.commit_transaction()
        await bridge.results(22)
        assert "In Kafka" not in await shown()
