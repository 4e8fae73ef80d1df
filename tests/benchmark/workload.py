"""Requests of a wanted size, whose results have about that size as well."""

import json
import random
from collections.abc import Iterator

from aiokafka import AIOKafkaProducer

BYTES_PER_DIMENSION = 21
WORDS = 400


def requests(count: int, size_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of embeddings requests; texts share no long prefix, so they compress like real ones."""
    chance = random.Random(size_bytes)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(WORDS)]
    texts = [" ".join(chance.choices(words, k=size_bytes // 6))[: size_bytes - 200] for _ in range(500)]
    dimensions = max(1, (size_bytes - 500) // BYTES_PER_DIMENSION)
    for number in range(count):
        body = {
            "model": "text-embedding-3-small",
            "input": f"{number} {texts[number % len(texts)]}",
            "dimensions": dimensions,
        }
        line = {"custom_id": f"request-{number}", "method": "POST", "url": "/v1/embeddings", "body": body}
        yield f"key-{number % 1000}".encode(), json.dumps(line).encode()


async def fill(bootstrap_servers: str, topic: str, count: int, size_bytes: int) -> None:
    """Produce requests, compressed as producers should (zstd)."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, compression_type="zstd", linger_ms=5, max_batch_size=128 * 1024
    )
    await producer.start()
    try:
        for key, value in requests(count, size_bytes):
            await producer.send(topic, value, key=key)
    finally:
        await producer.stop()
