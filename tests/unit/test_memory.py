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


CYCLES = """
import gc, sys, time
import penstock.cli.run
from penstock.memory import look_for_cycles_rarely

if sys.argv[1] == "asked":
    look_for_cycles_rarely()
searches = []
gc.callbacks.append(lambda phase, _: searches.append(phase))
kept = [[number] for number in range(50_000)]
print(len(gc.get_objects()) - len(kept), len(searches) // 2)
"""


def test_what_is_loaded_is_left_out_of_the_rare_searches_for_cycles() -> None:
    def searched(asked: str) -> list[int]:
        command = [sys.executable, "-c", CYCLES, asked]
        printed = subprocess.run(command, check=True, capture_output=True, env={"PYTHONPATH": str(SERVICE)}).stdout
        return [int(each) for each in printed.split()]

    objects, searches = searched("not asked")
    assert objects > 50_000
    assert searches > 20
    objects, searches = searched("asked")
    assert objects < 5_000
    assert searches <= 3
