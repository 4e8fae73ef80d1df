"""What a replica costs Postgres and Prometheus, whatever its producers send: rows, connections, series."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import WAIT_SECONDS, Bridge, open_bridge
from tests.support.conversation import Conversation
from tests.support.crash import until
from tests.support.request import chat
from tests.support.service import Service

LANES_MAX = 10
LANES = f"lanes_max = {LANES_MAX}\n[defaults]\nage_max_seconds = 0.3\n"
INVENTED = 250
SERIES_MORE = 10
"""A status of the provider or a cause of a reset may be met for the first time; a lane or a model never is."""
CHANGED = """
SELECT sum(n_tup_ins) AS inserted, sum(n_tup_upd + n_tup_del) AS changed FROM pg_stat_user_tables
WHERE relname LIKE 'payload%' OR relname LIKE 'manifest%'
"""
LEFT = "SELECT (SELECT count(*) FROM payload) + (SELECT count(*) FROM manifest) + (SELECT count(*) FROM chunk)"
FORGETFUL: dict[str, Any] = {
    "history_days": 2 / 86400,
    "janitor_file_grace_seconds": 0,
    "janitor_interval_seconds": 0.5,
    "janitor_payload_turn_seconds": 0.5,
}


@pytest.fixture(scope="module")
async def bridge(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bridge]:
    async with open_bridge(kafka, postgres, tmp_path_factory.mktemp("footprint"), lanes=LANES) as opened:
        yield opened


def connections(service: Service, dsn: str) -> int:
    """What a process holds open to the database's port."""
    found = psutil.Process(service.pid).net_connections(kind="tcp")
    port = urlsplit(dsn).port
    return sum(each.status == psutil.CONN_ESTABLISHED and each.raddr.port == port for each in found)


async def most_connections(service: Service, dsn: str) -> int:
    """The most that were open at a time, until this is cancelled."""
    most = 0
    try:
        while True:
            most = max(most, connections(service, dsn))
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        return most


async def test_a_process_has_four_connections_at_most_and_payload_is_inserted_and_emptied_alone(bridge: Bridge) -> None:
    async with bridge.service(submitter_concurrency=8, **FORGETFUL) as service:
        talk = Conversation(bridge, service)
        watching = asyncio.create_task(most_connections(service, bridge.pooled_dsn or bridge.dsn))
        for turn in range(3):
            await talk.ask([chat(f"load-{turn}-{n}", model=f"model-{n % 5}") for n in range(500)])
        watching.cancel()
        assert 2 <= await watching <= 4
        async with asyncio.timeout(WAIT_SECONDS):
            while (await bridge.sql(LEFT))[0][0]:
                await asyncio.sleep(0.2)
            while (await bridge.sql(CHANGED))[0]["inserted"] < 30:  # a session tells of its rows within ten seconds
                await asyncio.sleep(0.2)
        [(_, changed)] = await bridge.sql(CHANGED)
        assert changed == 0
        await talk.check()


async def series(service: Service) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """Every series of /metrics: name and labels."""
    text = await asyncio.to_thread(service.get, "/metrics")
    families = text_string_to_metric_families(text)
    return {(each.name, frozenset(each.labels.items())) for family in families for each in family.samples}


async def came(bridge: Bridge, letters: int, prefix: str) -> None:
    """Wait until all that was invented has come back: as a dead letter, or answered in a lane that was free."""

    async def all_came() -> bool:
        answered = sum(each.custom_id.startswith(prefix) for each in bridge.reader.received[bridge.result_topic])
        return len(bridge.reader.received[bridge.dead_letter_topic]) - letters + answered >= INVENTED

    await until(all_came)


async def test_a_producer_that_invents_models_gets_dead_letters_and_adds_no_series_and_the_lanes_before_do_not_notice(
    bridge: Bridge,
) -> None:
    counts = []
    async with bridge.service(submitter_concurrency=8) as service:
        talk = Conversation(bridge, service)
        await talk.ask([chat("before", model="model-0")])
        for turn in (1, 2):
            before = len(bridge.reader.received[bridge.dead_letter_topic])
            await bridge.produce([chat(f"{turn}-{n}", model=f"invented-{turn}-{n}") for n in range(INVENTED)])
            await came(bridge, before, f"{turn}-")
            refused = bridge.reader.received[bridge.dead_letter_topic]
            assert len(refused) - before >= INVENTED - LANES_MAX
            assert {each.header("penstock.error.code") for each in refused} == {"lane_limit"}
            await talk.ask([chat(f"after-{turn}", model="model-0")])
            counts.append(await series(service))
        await talk.check()
    assert not [each for each in counts[1] if any("invented" in value for _, value in each[1])]
    assert len(counts[1]) <= len(counts[0]) + SERIES_MORE
