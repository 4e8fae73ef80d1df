"""What stays true at the provider's own limits: one full window, many batches, a kill in a large run."""

import asyncio
import json
from pathlib import Path

import psutil
import pytest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.postgres import EmbeddedPostgres
from tests.support.bridge import Bridge, open_bridge
from tests.support.request import chat
from tests.support.service import Service

WINDOW = 50_000
MEMORY_MAX = 256 * 2**20
RUN = 10_000
BATCHES = 100
PATIENT = "[defaults]\nage_max_seconds = 600\n"
ROUNDS = 5
SECONDS = 250.0
IN_DOUBT = """
SELECT coalesce(sum(b.requests), 0) FROM intent AS i JOIN batch AS b ON b.id = i.batch_id WHERE i.outcome = 'absent'
"""


async def produce(bridge: Bridge, count: int, words: int) -> None:
    """Produce many requests, a part at a time, so that the test itself stays small."""
    for start in range(0, count, 5000):
        lines = [json.dumps(chat(f"r-{n}", words=words)).encode() for n in range(start, min(start + 5000, count))]
        await bridge.produce(lines)


@pytest.mark.timeout(600)
@pytest.mark.outcome("limit-requests", "large-output", "completed")
async def test_a_window_of_50000_requests_passes_in_256_mib(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with open_bridge(kafka, postgres, tmp_path, lanes=PATIENT) as bridge, bridge.service() as service:
        process, peak = psutil.Process(service.pid), 0
        await produce(bridge, WINDOW, words=170)  # 1 KB each
        async with asyncio.timeout(SECONDS):
            while len(bridge.reader.received[bridge.result_topic]) < WINDOW:
                peak = max(peak, process.memory_info().rss)
                await asyncio.sleep(0.05)
        batches = await bridge.sql("SELECT requests, seal_reason, bytes FROM batch")
        report = await bridge.check()
    assert [(row["requests"], row["seal_reason"]) for row in batches] == [(WINDOW, "requests")]
    assert batches[0]["bytes"] > WINDOW * 1000
    assert report["executions"] == WINDOW
    assert peak < MEMORY_MAX


async def test_a_hundred_batches_in_progress_cost_one_list_call_a_round(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    lanes = "[defaults]\nage_max_seconds = 60\nrequests_max = 1\nenqueued_tokens_max = 1000000\n"
    async with (
        open_bridge(kafka, postgres, tmp_path, lanes=lanes, simulator={"in_progress_seconds": 600}) as bridge,
        bridge.service() as service,
    ):
        await bridge.produce([chat(f"request-{n}") for n in range(BATCHES)])
        async with asyncio.timeout(SECONDS):
            while await open_batches(bridge) < BATCHES:
                await asyncio.sleep(0.1)
        before = await calls(service)
        async with asyncio.timeout(SECONDS):
            while (await calls(service))[0] < before[0] + ROUNDS:
                await asyncio.sleep(0.05)
        after = await calls(service)
    assert after[1] == before[1], "no batch was retrieved by itself"


async def open_batches(bridge: Bridge) -> int:
    """Batches whose first status after creation is known."""
    rows = await bridge.sql("SELECT count(*) FROM batch WHERE provider_status = 'in_progress'")
    count: int = rows[0][0]
    return count


async def calls(service: Service) -> tuple[float, float]:
    """List and retrieve calls so far."""
    name = "penstock_provider_calls_total"
    return await service.metric(name, operation="batches.list"), await service.metric(
        name, operation="batches.retrieve"
    )


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_replica_killed_amid_ten_thousand_requests_loses_doubles_and_crosses_nothing(
    kafka: EmbeddedKafka, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with (
        open_bridge(kafka, postgres, tmp_path, simulator={"in_progress_seconds": 1}) as bridge,
        bridge.service() as first,
        bridge.service(),
    ):
        producing = asyncio.create_task(produce(bridge, RUN, words=20))
        await bridge.results(1, timeout_seconds=SECONDS)
        await first.kill()
        await producing
        await bridge.results(RUN, timeout_seconds=SECONDS)
        in_doubt = await bridge.sql(IN_DOUBT)
        report = await bridge.check(extra_executions_allowed=in_doubt[0][0])
    assert report["results"] == RUN
