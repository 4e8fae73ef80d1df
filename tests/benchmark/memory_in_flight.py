"""Peak memory of a replica that bridges the same requests while ten thousand, or a million, others are in flight."""

import asyncio
import json
import statistics
from collections.abc import Sequence

import asyncpg
from aiokafka import AIOKafkaProducer

from tests.benchmark.bridging import serving
from tests.benchmark.figure import MIB, Figure
from tests.benchmark.ground import Ground
from tests.benchmark.process import peak_bytes
from tests.benchmark.workload import fill

FEW, MANY = 10_000, 1_000_000
WINDOW = 10_000
PASSING = 20_000
PASSING_BYTES = 1024
MODEL = "held"
HELD = [{"when": {"model": MODEL}, "batch": {"seconds": {"in_progress": 36_000}}}]
LANES = f"""
[defaults]
age_max_seconds = 2

[[lane]]
model = "{MODEL}"
age_max_seconds = 3600
requests_max = {WINDOW}
"""
IN_FLIGHT = "SELECT coalesce(sum(requests), 0) FROM batch WHERE provider_status = 'in_progress'"
PUBLISHED = "SELECT coalesce(sum(requests), 0) FROM batch WHERE state = 'published'"
WAIT_SECONDS = 1200.0
RATIO_MAX = 1.1
ROUNDS = 5
"""One peak depends on what happens to coincide: it moves by a tenth."""


async def hold(bootstrap_servers: str, topic: str, count: int) -> None:
    """Requests that the provider will not finish."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=5, max_batch_size=128 * 1024)
    await producer.start()
    try:
        for number in range(count):
            body = {"model": MODEL, "input": f"text {number}"}
            line = {"custom_id": f"held-{number}", "method": "POST", "url": "/v1/embeddings", "body": body}
            await producer.send(topic, json.dumps(line).encode())
    finally:
        await producer.stop()


class Flight:
    """A deployment with requests in flight, more and more."""

    def __init__(self, ground: Ground, topic: str, environment: dict[str, str]) -> None:
        self.ground = ground
        self.topic = topic
        self.environment = environment
        self.held = self.passed = 0

    async def reach(self, query: str, count: int) -> None:
        """Wait until a query counts so many."""
        connection = await asyncpg.connect(self.environment["PENSTOCK_POSTGRES_DSN"])
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while await connection.fetchval(query) < count:
                    await asyncio.sleep(0.5)
        finally:
            await connection.close()

    async def raise_to(self, count: int) -> float:
        """Bring so many in flight; returns the peak memory of the replica that did, in MiB."""
        async with serving(self.ground, self.environment, f"raise-{count}") as service:
            await hold(self.ground.kafka.bootstrap_servers, self.topic, count - self.held)
            await self.reach(IN_FLIGHT, count)
            self.held = count
            return peak_bytes(service.pid) / MIB

    async def passing(self) -> float:
        """Let others pass by new replicas, one after the other; returns the median of their peak memory, in MiB."""
        return statistics.median([await self.passing_once() for _ in range(ROUNDS)])

    async def passing_once(self) -> float:
        """Let others pass by a new replica; returns its peak memory in MiB."""
        async with serving(self.ground, self.environment, f"passing-{self.passed}") as service:
            await fill(self.ground.kafka.bootstrap_servers, self.topic, PASSING, PASSING_BYTES)
            self.passed += PASSING
            await self.reach(PUBLISHED, self.passed)
            return peak_bytes(service.pid) / MIB


async def measure(ground: Ground) -> Sequence[Figure]:
    """The same work twice; what is in flight is a hundred times as much the second time."""
    topic = await ground.topic("requests")
    flight = Flight(ground, topic, await ground.environment(topic))
    ground.lanes(flight.environment, LANES)
    await ground.simulator.faults(HELD)
    await flight.raise_to(FEW)
    few = await flight.passing()
    raising = await flight.raise_to(MANY)
    many = await flight.passing()
    return [
        Figure(f"peak memory with {FEW:,} in flight", few, "MiB", most=256),
        Figure(f"peak memory while {MANY:,} were brought in flight", raising, "MiB", most=256),
        Figure(f"peak memory with {MANY:,} in flight", many, "MiB", most=256),
        Figure(f"{MANY:,} in flight against {FEW:,}", many / few, "times", most=RATIO_MAX),
    ]
