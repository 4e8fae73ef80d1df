"""Peak memory of the whole bridge with bodies of 100 KB, and results as large."""

from collections.abc import Sequence

from tests.benchmark.bridging import bridge
from tests.benchmark.figure import MIB, Figure
from tests.benchmark.ground import Ground

BODY_BYTES = 100 * 1024
REQUESTS = 4000


async def measure(ground: Ground) -> Sequence[Figure]:
    """Two windows of 200 MB, from topic to topic."""
    reading = await bridge(ground, REQUESTS, BODY_BYTES)
    return [Figure(f"peak memory, {REQUESTS:,} bodies of 100 KB", reading.peak_bytes / MIB, "MiB", most=256)]
