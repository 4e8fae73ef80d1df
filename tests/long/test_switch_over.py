"""The primary of a Postgres pair goes, and its standby takes its place."""

import asyncio
import json
from pathlib import Path

import pytest

from penstock.embedded.kafka import EmbeddedKafka
from tests.support.bridge import open_bridge
from tests.support.request import chat
from tests.support.service import Service
from tests.support.switch_over import open_pair

WAIT_SECONDS = 30


async def degraded(service: Service, text: str) -> None:
    """Wait until `/readyz` says so of Postgres."""
    async with asyncio.timeout(WAIT_SECONDS):
        while text not in json.loads(await asyncio.to_thread(service.get, "/readyz"))["degraded"].get("postgres", ""):
            await asyncio.sleep(0.1)


@pytest.mark.outcome("postgres-switched")
async def test_after_a_switch_over_no_connection_stays_on_the_standby(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    """The first primary comes back as a standby behind the same address, which leads to the new one later."""
    async with open_pair(tmp_path / "pair") as pair, open_bridge(kafka, pair, tmp_path) as bridge:
        async with bridge.service() as service:
            await bridge.produce([chat(f"before-{n}") for n in range(20)])
            await bridge.results(20)
            await pair.switch_over()
            await bridge.produce([chat(f"between-{n}") for n in range(20)])
            await degraded(service, "is a read-only standby")
            pair.target = pair.second.port
            await bridge.results(40)
            assert json.loads(service.get("/readyz"))["degraded"] == {}
        both = bridge.dsn.replace(f":{pair.address}/", f":{pair.port},127.0.0.1:{pair.second.port}/")
        assert both != bridge.dsn
        async with bridge.service(postgres_dsn=both) as service:
            await bridge.produce([chat(f"after-{n}") for n in range(20)])
            await bridge.results(60)
            await pair.second.stop()
            await pair.promote()
            await bridge.produce([chat(f"again-{n}") for n in range(20)])
            await bridge.results(80)
        pair.target = pair.port
        assert not [each for each in service.logs() if each["level"] == "error"]
        await bridge.check()
