"""What is asked of the C library's allocator, and of the collector of cycles."""

import contextlib
import ctypes
import gc

M_MMAP_THRESHOLD = -3
"""glibc's number of the option."""
LARGE_BYTES = 256 * 1024
CYCLES_AFTER_OBJECTS = 20_000


def give_back_large_buffers() -> None:
    """Let what is larger than 256 KiB go back to the system as soon as it is freed; does nothing without glibc.

    By itself glibc raises that bound to the largest buffer that was freed so far: 32 MiB soon. What is smaller is then
    cut out of heaps, which buffers of all sizes leave full of holes.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


def look_for_cycles_rarely() -> None:
    """Leave what is loaded out of the search for cycles, and search a thirtieth as often; call it once, at start.

    Requests make hardly any cycles, but many objects: searching after each 700 takes a twelfth of intake's CPU, and a
    search of everything that is loaded holds the event loop up for tens of milliseconds.
    """
    gc.freeze()
    gc.set_threshold(CYCLES_AFTER_OBJECTS)
