"""Memory that a training frees and takes again is not met as fresh pages."""

from __future__ import annotations

import platform
import resource
from pathlib import Path

import numpy as np
import pytest

from shelftalk.training.memory import freed_memory_kept

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
BYTES = 2**27
PAGES = BYTES // resource.getpagesize()
LARGER_THAN_ANY_HOLE = 2**31
"""Bytes of a block for which the heap, whatever other tests left in it, has no place: it is reserved and
never touched."""


def _fresh_pages() -> int:
    """Pages that the system had to give while a block was filled and freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    assert len(b"1" * BYTES) == BYTES
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _held() -> int:
    """Pages of memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1])


def _stays_reserved(size: int) -> bool:
    """Whether the addresses of a block stay with the process when it is freed."""
    before = _reserved()
    np.empty(size, dtype=np.uint8)
    return _reserved() > before + size // resource.getpagesize() // 2


def _reserved() -> int:
    """Pages of addresses that the process has, filled or not."""
    return int(Path("/proc/self/statm").read_text().split()[0])


def test_a_block_lies_where_the_last_one_lay() -> None:
    with freed_memory_kept():
        _fresh_pages()
        assert _fresh_pages() < PAGES / 100


def test_all_is_given_back_at_the_end() -> None:
    with freed_memory_kept():
        _fresh_pages()
        held = _held()
    assert _held() < held - PAGES / 2


def test_from_then_on_a_large_block_goes_back_at_once() -> None:
    with freed_memory_kept():
        assert _stays_reserved(LARGER_THAN_ANY_HOLE)
    assert not _stays_reserved(2 * LARGER_THAN_ANY_HOLE)


def test_also_where_training_fails() -> None:
    with pytest.raises(ValueError, match="halfway"), freed_memory_kept():
        _fresh_pages()
        held = _held()
        raise ValueError("halfway")
    assert _held() < held - PAGES / 2
