import subprocess
import sys

import pytest

from tests.support.simulator import SERVICE

FREED_MIB = 100
FEW_MIB = 10
HOLES = f"""
import re, sys
from penstock.memory import give_back_large_buffers

def held():
    return int(re.search(r"VmRSS:\\s*(\\d+)", open("/proc/self/status").read())[1]) // 1024

if sys.argv[1] == "asked":
    give_back_large_buffers()
bytearray(30 << 20)  # freed at once: from now on glibc takes a buffer of this size as small
before, kept = held(), []
large = [(bytearray(1 << 20), kept.append(bytearray(4096)))[0] for _ in range({FREED_MIB})]
del large
print(held() - before)
"""


def left_mib(asked: str) -> int:
    """What a process still holds of 100 MiB of buffers that it has freed, with small ones between them."""
    command = [sys.executable, "-c", HOLES, asked]
    return int(subprocess.run(command, check=True, capture_output=True, env={"PYTHONPATH": str(SERVICE)}).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and glibc is what is asked")
def test_large_buffers_are_given_back_whatever_small_ones_lie_between() -> None:
    assert left_mib("asked") < FEW_MIB
    assert left_mib("not asked") > FREED_MIB - FEW_MIB
