"""How long Kafka keeps what is unread is told of whatever is unread, also by who has just been started."""

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.support.bridge import Bridge
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
