"""The broker is gone for ten minutes under traffic."""

import asyncio
import json

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from tests.support.bridge import Bridge
from tests.support.request import chat
from tests.support.service import Service

AWAY_SECONDS = 600
RECOVERY_SECONDS = 120


def count(service: Service) -> int:
    """Errors that the service has logged."""
    return sum(each["level"] == "error" for each in service.logs())


@pytest.mark.outcome("kafka-away")
async def test_a_broker_that_is_gone_for_ten_minutes_loses_and_doubles_nothing(
    bridge: Bridge, kafka: EmbeddedKafka
) -> None:
    async with bridge.service() as service:
        lines = [chat(f"request-{n}") for n in range(3000)]
        await bridge.produce(lines[:1000])
        await bridge.produce(lines[1000:2000])
        await bridge.results(500)  # some are published, some at the provider, some are not read yet
        await kafka.kill()
        for _ in range(AWAY_SECONDS // 10):
            await asyncio.sleep(10)
            assert json.loads(service.get("/livez"))["live"]
        await kafka.start()
        await bridge.produce(lines[2000:])
        await bridge.results(3000, timeout_seconds=RECOVERY_SECONDS)
        assert count(service) == 0
        await bridge.check()
