"""One seed in, named independent generators out; and a seeded hash that orders things independently of a
file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A generator that depends on the seed and the names alone: `generator(7, "negatives", epoch)`."""
    return np.random.default_rng(number(seed, *names))


def number(seed: int, *names: str | int) -> int:
    """A 63-bit number of the seed and the names, the same on every machine and Python."""
    key = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") >> 1


def hash_order(keys: Iterable[str], seed: int, purpose: str) -> np.ndarray:
    """Sort keys of a seeded hash order, one per key: sorted by them, rows do not depend on the order of a
    file.

    Returns [n] uint64; equal keys get equal numbers, so sort by (number, key) where keys may collide.
    """
    prefix = f"{seed}\x1f{purpose}\x1f".encode()
    digests = b"".join(hashlib.blake2b(prefix + key.encode(), digest_size=8).digest() for key in keys)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)
