"""Peak memory with four uploads and four downloads of 200 MB at once."""

import asyncio
import json
from collections.abc import Sequence

import asyncpg
from aiokafka import AIOKafkaProducer

from tests.benchmark.bridging import PUBLISHED, serving
from tests.benchmark.figure import MIB, Figure
from tests.benchmark.ground import Ground
from tests.benchmark.process import peak_bytes
from tests.benchmark.workload import requests
from tests.support.service import Service

AT_ONCE = 4
EACH = 2000
BODY_BYTES = 99_000
MB = 1_000_000
LANES = f"[defaults]\nage_max_seconds = 3600\nrequests_max = {EACH}\n"
FILE_MB_MIN = 190.0
WAIT_SECONDS = 1200.0
ENDED = "SELECT count(*) FROM batch WHERE state = 'ended'"
SEALED = "SELECT count(*) FROM batch WHERE state = 'sealed'"
SPREAD = f"""
WITH numbered AS (SELECT id, row_number() OVER (ORDER BY state, id) % {AT_ONCE} AS slot FROM batch)
UPDATE batch SET slot = numbered.slot FROM numbered WHERE numbered.id = batch.id
"""
"""By chance two batches could have one slot, whose downloads follow each other."""
HOLD = [
    {"operation": "files.create", "http": {"delay_seconds": 10}},
    {"operation": "files.content", "http": {"delay_seconds": 10}},
]
"""All transfers begin before the first one moves."""


async def fill(bootstrap_servers: str, topic: str, kind: str) -> None:
    """As many windows as there are transfers at once, each a model of its own."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, compression_type="zstd", linger_ms=5, max_batch_size=512 * 1024
    )
    await producer.start()
    try:
        for number, (_, value) in enumerate(requests(AT_ONCE * EACH, BODY_BYTES)):
            line = json.loads(value)
            line["body"]["model"] = f"{kind}-{number % AT_ONCE}"
            await producer.send(topic, json.dumps(line).encode())
    finally:
        await producer.stop()


async def reach(connection: "asyncpg.Connection[asyncpg.Record]", query: str, count: int) -> None:
    """Wait until a query counts so many."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await connection.fetchval(query) < count:
            await asyncio.sleep(0.2)


async def overlap_mb(service: Service) -> float:
    """The megabytes of uploads and downloads, whichever are fewer, that are under way at a time."""
    return min([await service.metric("penstock_spool_bytes", direction=each) / MB for each in ("upload", "download")])


async def measure(ground: Ground) -> Sequence[Figure]:
    """Four batches end at the provider, four more are sealed: then a replica that does everything finds both."""
    topic = await ground.topic("requests")
    environment = await ground.environment(topic)
    environment["PENSTOCK_SUBMITTER_CONCURRENCY"] = str(AT_ONCE)
    ground.lanes(environment, LANES)
    servers = ground.kafka.bootstrap_servers
    connection = None
    try:
        async with serving(ground, environment, "before", stages="intake,seal,submit,poll"):
            connection = await asyncpg.connect(environment["PENSTOCK_POSTGRES_DSN"])
            await fill(servers, topic, "down")
            await reach(connection, ENDED, AT_ONCE)
        async with serving(ground, environment, "between", stages="intake,seal"):
            await fill(servers, topic, "up")
            await reach(connection, SEALED, AT_ONCE)
        await connection.execute(SPREAD)
        await ground.simulator.faults(HOLD)
        async with serving(ground, environment, "both") as service:
            together = 0.0
            while together < AT_ONCE * FILE_MB_MIN:
                together = max(together, await overlap_mb(service))
                await asyncio.sleep(0.1)
            await reach(connection, PUBLISHED, 2 * AT_ONCE * EACH)
            peak = peak_bytes(service.pid)
    finally:
        if connection is not None:
            await connection.close()
    return [
        Figure(
            f"{AT_ONCE} uploads at once with {AT_ONCE} downloads, together each",
            together,
            "MB",
            least=AT_ONCE * FILE_MB_MIN,
        ),
        Figure("peak memory with them", peak / MIB, "MiB", most=256),
    ]
