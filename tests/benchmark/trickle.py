"""Requests in a chunk when 100 a second arrive at four replicas, for many lanes and tenants, with the usual linger."""

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import asyncpg
from aiokafka import AIOKafkaProducer

from tests.benchmark.figure import Figure
from tests.benchmark.ground import Ground
from tests.support.service import Service, run_logged

PARTITIONS = 8
REPLICAS = 4
LANES = 20
TENANTS = 100
PER_SECOND = 100
SECONDS = 120
LEAST = 20
JOIN_SECONDS = 60
BODY_BYTES = 1000
SYSTEM = "You answer questions about the orders of a shop, briefly and kindly, from what is given to you alone. " * 7
CHUNKS = "SELECT count(*), sum(requests)::integer, sum(stored_bytes)::bigint FROM chunk"


async def measure(ground: Ground) -> Sequence[Figure]:
    """The mean over all chunks of two minutes; those of the last gatherings, which a drain cuts short, are left out."""
    topic = await ground.topic("requests", PARTITIONS)
    environment = await ground.environment(topic)
    del environment["PENSTOCK_INTAKE_LINGER_SECONDS"]
    log = ground.folder / "migrate.log"
    await (await run_logged([sys.executable, "-m", "penstock", "migrate"], log, environment)).wait()
    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(Service(ground.folder / f"replica-{number}.log", environment, fresh=True))
            for number in range(REPLICAS)
        ]
        for replica in replicas:
            await replica.reached("penstock_partitions_assigned", PARTITIONS // REPLICAS, JOIN_SECONDS)
        await trickle(ground.kafka.bootstrap_servers, topic)
        connection = await asyncpg.connect(environment["PENSTOCK_POSTGRES_DSN"])
        [(chunks, requests, size_bytes)] = await connection.fetch(CHUNKS)
        await connection.close()
    what = f"{PER_SECOND} requests/s, {REPLICAS} replicas, {LANES} lanes, {TENANTS} tenants"
    return [
        Figure(f"requests in a chunk, {what}", requests / chunks, "", least=LEAST),
        Figure(f"bytes stored of each request of {BODY_BYTES:,}, {what}", size_bytes / requests, "bytes"),
    ]


async def trickle(bootstrap_servers: str, topic: str) -> None:
    """Send requests evenly over time, lanes and partitions."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=5)
    await producer.start()
    try:
        started = time.monotonic()
        for number in range(PER_SECOND * SECONDS):
            await asyncio.sleep(max(0.0, started + number / PER_SECOND - time.monotonic()))
            tenant = ("tenant", f"tenant-{random.randrange(TENANTS)}".encode())
            await producer.send(topic, line(number), partition=random.randrange(PARTITIONS), headers=[tenant])
    finally:
        await producer.stop()


def line(number: int) -> bytes:
    """A request: a system prompt that all share, and a question of its own."""
    question = f"{number} {random.randbytes(BODY_BYTES // 8).hex()}"
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    body = {"model": f"model-{random.randrange(LANES)}", "messages": messages}
    return json.dumps({"custom_id": f"request-{number}", "url": "/v1/chat/completions", "body": body}).encode()
