"""Postgres' log over the requests' own bytes, from intake to the last clean-up, for chunks as a trickle makes them."""

import asyncio
import json
import random
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer

from tests.benchmark.figure import Figure
from tests.benchmark.ground import Ground
from tests.support.service import Service, run_logged

REQUESTS = 200_000
LANES = 20
GATHERING = 580
"""What ten million requests a day bring in five seconds: 29 a chunk."""
CHECKPOINTS = 6
"""As many as in the half hour in which so many would arrive: after each, a page is first logged whole."""
MOST = 0.6
WORDS = 2000
SYSTEM = "You answer questions about the orders of a shop, briefly and kindly, from what is given to you alone. " * 7
QUESTION_WORDS = (20, 150)
SETTINGS = {
    "HISTORY_DAYS": 60 / 86400,
    "INTAKE_REQUESTS_MAX": GATHERING,
    "JANITOR_FILE_GRACE_SECONDS": 1,
    "JANITOR_INTERVAL_SECONDS": 5,
    "JANITOR_PAYLOAD_TURN_SECONDS": 30,
}
STORED = "SELECT coalesce(sum(position), 0)::integer FROM position"
LEFT = """
SELECT (SELECT count(*) FROM chunk) + (SELECT count(*) FROM batch) + (SELECT count(*) FROM payload)
    + (SELECT count(*) FROM manifest) + (SELECT count(*) FROM intent)
"""
LOGGED = "SELECT wal_fpi, (pg_current_wal_insert_lsn() - '0/0')::bigint FROM pg_stat_wal"


async def measure(ground: Ground) -> Sequence[Figure]:
    """A whole life: sealed, submitted, decided, published, forgotten, every table of payload and manifests emptied."""
    topic = await ground.topic("requests")
    environment = await ground.environment(topic)
    environment |= {f"PENSTOCK_{name}": str(value) for name, value in SETTINGS.items()}
    log = ground.folder / "service.log"
    await (await run_logged([sys.executable, "-m", "penstock", "migrate"], log, environment)).wait()
    connection = await asyncpg.connect(environment["PENSTOCK_POSTGRES_DSN"])
    await connection.execute("CHECKPOINT")
    [(pages_before, before)] = await connection.fetch(LOGGED)
    payload_bytes = await fill(ground.kafka.bootstrap_servers, topic)
    async with Service(log, environment, fresh=True):
        await live(connection)
        [(chunks,)] = await connection.fetch("SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'chunk'")
        [(pages, after)] = await connection.fetch(LOGGED)
    await connection.close()
    what = f"{REQUESTS:,} requests of {payload_bytes / REQUESTS:,.0f} bytes, {REQUESTS / chunks:.0f} a chunk"
    return [
        Figure(f"WAL over payload, {what}", (after - before) / payload_bytes, "", most=MOST),
        Figure(f"whole pages in it, {CHECKPOINTS} checkpoints", (pages - pages_before) * 8192 / (after - before), ""),
    ]


async def live(connection: Any) -> None:
    """Wait for the end of it all, with checkpoints on the way; what is stored is the measure of the way."""
    for number in range(1, CHECKPOINTS + 1):
        while await connection.fetchval(STORED) < number * REQUESTS // (CHECKPOINTS + 1):
            await asyncio.sleep(0.2)
        await connection.execute("CHECKPOINT")
    while await connection.fetchval(STORED) < REQUESTS or await connection.fetchval(LEFT):
        await asyncio.sleep(1)


async def fill(bootstrap_servers: str, topic: str) -> int:
    """Produce; returns the bytes of all lines."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, compression_type="zstd", linger_ms=5, max_batch_size=128 * 1024
    )
    await producer.start()
    try:
        size_bytes = 0
        for line in lines():
            size_bytes += len(line)
            await producer.send(topic, line)
        return size_bytes
    finally:
        await producer.stop()


def lines() -> Iterator[bytes]:
    """Requests that share a system prompt; each has a question of its own."""
    chance = random.Random(7)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(WORDS)]
    for number in range(REQUESTS):
        question = " ".join(chance.choices(words, k=chance.randint(*QUESTION_WORDS)))
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        body = {"model": f"model-{chance.randrange(LANES)}", "messages": messages}
        yield json.dumps({"custom_id": f"request-{number}", "url": "/v1/chat/completions", "body": body}).encode()
