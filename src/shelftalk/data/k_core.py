"""The k-core filter: every user and every item that is kept has at least k events.

Legend: E events, U users, I items.
"""

from __future__ import annotations

import numpy as np
import polars as pl

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
    users = _codes(events["user_id"])
    items = _codes(events["item_id"])
    kept, passes = _core(users, items, k)
    if not kept.any():
        most = int(np.bincount(users).max())  # no core is larger than the longest history
        possible = next(
            (lower for lower in range(min(k - 1, most), 1, -1) if _core(users, items, lower)[0].any()), 1
        )
        raise NothingLeft(
            f"the k-core filter with k = {k} leaves nothing of {len(events):,} events; "
            f"set data.k_core = {possible} or less, or give more data."
        )
    return kept, passes


def _codes(ids: pl.Series) -> np.ndarray:
    """[E] int64, 0, 1, 2 ... per distinct id."""
    return ids.rank("dense").to_numpy().astype(np.int64) - 1


def _core(users: np.ndarray, items: np.ndarray, k: int) -> tuple[np.ndarray, int]:
    """[E] bool, what is kept; and the number of passes that removed something."""
    rows, passes = np.arange(len(users)), 0
    while len(rows):
        enough = np.ones(len(rows), bool)
        for codes in (users[rows], items[rows]):
            enough &= np.bincount(codes)[codes] >= k
        if enough.all():
            break
        rows, passes = rows[enough], passes + 1
    kept = np.zeros(len(users), bool)
    kept[rows] = True
    return kept, passes
