"""The k-core filter: every user and every item that is kept has at least k events.

Legend: E events, U users, I items.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from shelftalk.data.coding import codes_of
from shelftalk.errors import NothingLeft


def k_core(events: pl.DataFrame, k: int) -> tuple[pl.DataFrame, int]:
    """The k-core of the events (columns user_id and item_id), in the order given, and the number of passes it
    took.

    A pass removes the events of all users and of all items that have fewer than k; the passes end when one
    removes nothing. The result is the largest set of events in which every user and item has k, so it does
    not depend on the order of rows or passes (Seidman, "Network structure and minimum degree", 1983). k of 0
    or 1 removes nothing.

    Raises NothingLeft, naming the largest k that would leave something.
    """
    kept, passes = in_core(events, k)
    return events.filter(pl.Series(kept)), passes


def in_core(events: pl.DataFrame, k: int) -> tuple[np.ndarray, int]:
    """[E] bool, which events `k_core` keeps, and the number of passes. Raises NothingLeft."""
    return core_of(codes_of(events["user_id"])[0], codes_of(events["item_id"])[0], k)


def core_of(users: np.ndarray, items: np.ndarray, k: int) -> tuple[np.ndarray, int]:
    """As `in_core`, for the numbers of the users and items of the events, 0, 1, 2 ..."""
    kept, passes = _core(users, items, k)
    if len(users) and not kept.any():
        most = int(np.bincount(users).max())  # no core is larger than the longest history
        possible = next(
            (lower for lower in range(min(k - 1, most), 1, -1) if _core(users, items, lower)[0].any()), 1
        )
        raise NothingLeft(
            f"the k-core filter with k = {k} leaves nothing of {len(users):,} events; "
            f"set data.k_core = {possible} or less, or give more data."
        )
    return kept, passes


def _core(users: np.ndarray, items: np.ndarray, k: int) -> tuple[np.ndarray, int]:
    """[E] bool, what is kept; and the number of passes that removed something."""
    kept, passes = np.ones(len(users), bool), 0
    if k < 2:
        return kept, passes
    rows = np.arange(len(users), dtype=np.int32 if len(users) < 2**31 else np.int64)
    counts = [np.bincount(users), np.bincount(items)]
    while len(rows):
        enough = (counts[0] >= k)[users[rows]]
        enough &= (counts[1] >= k)[items[rows]]
        if enough.all():
            break
        gone = rows[~enough]
        kept[gone] = False
        rows, passes = rows[enough], passes + 1
        for count, codes in zip(counts, (users, items), strict=True):
            count -= np.bincount(codes[gone], minlength=len(count))
    return kept, passes
