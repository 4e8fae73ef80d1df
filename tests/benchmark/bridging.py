"""The whole bridge as one process: CPU for each request, and its peak memory, from topic to topic."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import psutil

from tests.benchmark.ground import Ground, Reading, Watch
from tests.benchmark.process import peak_bytes
from tests.benchmark.workload import fill
from tests.support.service import Service, run_logged

PUBLISHED = "SELECT coalesce(sum(requests), 0) FROM batch WHERE state = 'published'"


@dataclass(frozen=True, slots=True)
class BridgeReading:
    """CPU and time of a run, and the most memory that the process held."""

    reading: Reading
    peak_bytes: int
    cpu_seconds_idle: float


@asynccontextmanager
async def serving(
    ground: Ground, environment: Mapping[str, str], name: str, stages: str = ""
) -> AsyncIterator[Service]:
    """The service, or some of its stages, as a process of its own, on a database that is migrated first."""
    log = ground.folder / f"{name}.log"
    await (await run_logged([sys.executable, "-m", "penstock", "migrate"], log, environment)).wait()
    async with Service(log, environment, stages=stages, fresh=True) as service:
        yield service


async def bridge(ground: Ground, count: int, size_bytes: int) -> BridgeReading:
    """Answer ``count`` requests that are there when the service has started."""
    topic = await ground.topic("requests")
    environment = await ground.environment(topic)
    async with serving(ground, environment, topic) as service:
        process = psutil.Process(service.pid)
        idle = cpu(process)
        watch = Watch()
        await fill(ground.kafka.bootstrap_servers, topic, count, size_bytes)
        connection = await asyncpg.connect(environment["PENSTOCK_POSTGRES_DSN"])
        while await connection.fetchval(PUBLISHED) < count:
            await asyncio.sleep(0.05)
        await connection.close()
        used = cpu(process) - idle
        wall = watch.read(count).wall_seconds
        peak = peak_bytes(service.pid)
    return BridgeReading(Reading(count, wall, used), peak, idle)


def cpu(process: psutil.Process) -> float:
    """CPU time of a process, in seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)
