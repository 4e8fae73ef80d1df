"""What is asked of the C library's allocator."""

import contextlib
import ctypes

M_MMAP_THRESHOLD = -3
"""glibc's number of the option."""
LARGE_BYTES = 256 * 1024


def give_back_large_buffers() -> None:
    """Let what is larger than 256 KiB go back to the system as soon as it is freed; does nothing without glibc.

    By itself glibc raises that bound to the largest buffer that was freed so far: 32 MiB soon. What is smaller is then
    cut out of heaps, which buffers of all sizes leave full of holes.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
