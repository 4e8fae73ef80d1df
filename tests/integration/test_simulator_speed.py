import hashlib
import json
import time
from pathlib import Path

import pytest

from tests.support.simulator import Simulator, chat_lines, create_batch, reach

REQUESTS = 50_000
CPU_SECONDS_MAX = 3.0
SHARE_MAX = 5.0
"""On a slower machine: so many times what it costs to read the lines once and to hash them."""
MEMORY_BYTES_MAX = 200_000_000


def peak_memory_bytes(pid: int) -> int:
    """The most memory that a process has had resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("Linux tells VmHWM")


def reading_seconds(content: bytes) -> float:
    """The processor time that it takes here to read every line, and to write and hash it."""
    started = time.process_time()
    for line in content.splitlines():
        hashlib.sha256(json.dumps(json.loads(line)).encode()).digest()
    return time.process_time() - started


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux")
async def test_a_full_batch_costs_little_processor_time_and_memory(tmp_path: Path) -> None:
    content = chat_lines(REQUESTS, characters=880)
    assert len(content) > 1_000 * REQUESTS
    async with Simulator(tmp_path / "state") as simulator, simulator.client() as client:
        before = (await simulator.control_state())["cpu_seconds"]
        batch = await reach(client, (await create_batch(client, content)).id)
        digits = 0
        async with client.files.with_streaming_response.content(batch.output_file_id or "") as response:
            async for chunk in response.iter_bytes():
                digits += chunk.count(b"\n")
        spent = (await simulator.control_state())["cpu_seconds"] - before
        allowed = max(CPU_SECONDS_MAX, SHARE_MAX * reading_seconds(content))
        assert digits == REQUESTS
        assert spent <= allowed, json.dumps({"cpu_seconds": spent, "allowed": allowed})
        assert peak_memory_bytes(simulator.pid) < MEMORY_BYTES_MAX
