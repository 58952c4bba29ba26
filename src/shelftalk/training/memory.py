"""Memory that a training frees and allocates again at every step."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# numbers of glibc's mallopt(3)
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_NEVER = -1
# glibc's own limits: the highest value of its dynamic threshold, and the number of mapped blocks
_MMAP_USUALLY, _MMAPS_USUALLY = 2**25, 65536


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Inside, freed memory stays with the process and is used again; at the end all that is free is returned.

    glibc maps large blocks from the system and returns them when they are freed, the end of its heap too, so
    that every step of a training gets its activations and gradients in fresh pages, each of which the system
    clears first; `python -m benchmarks training` measures the cost. Under another C library nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, _MMAPS_USUALLY)
        libc.mallopt(_MMAP_THRESHOLD, _MMAP_USUALLY)
        libc.mallopt(_TRIM_THRESHOLD, 2 * _MMAP_USUALLY)
        libc.malloc_trim(0)
