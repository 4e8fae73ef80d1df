"""What a process has used, by the kernel's word (Linux)."""

import re
from pathlib import Path


def peak_bytes(pid: int) -> int:
    """The most memory that a process has held so far."""
    return status(pid, "VmHWM")


def held_bytes(pid: int) -> int:
    """The memory that a process holds now."""
    return status(pid, "VmRSS")


def status(pid: int, name: str) -> int:
    """A line of the process' status, in bytes."""
    found = re.search(rf"^{name}:\s*(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found, f"the kernel does not tell {name}"
    return int(found[1]) * 1024
