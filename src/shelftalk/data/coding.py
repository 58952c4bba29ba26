"""Ids as numbers, and orders of many rows, by sorting 64-bit numbers: what makes millions of events cheap.

Legend: n rows, D distinct ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class EventCodes:
    """Users and items of n events as numbers: `user` [n] and `item` [n] int32 are positions in `users` and
    `items`, the distinct ids, ascending."""

    user: np.ndarray
    users: pl.Series
    item: np.ndarray
    items: pl.Series

    def filter(self, mask: np.ndarray) -> EventCodes:
        """Those of the events where `mask` [n] is true."""
        return EventCodes(*_compact(self.user[mask], self.users), *_compact(self.item[mask], self.items))

    def duplicated(self) -> np.ndarray:
        """Rows, ascending, of the events whose user has taken their item on another row too."""
        pair = self.user.astype(np.int64)
        pair *= len(self.items)
        pair += self.item
        ordered = np.sort(pair)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        return np.flatnonzero(np.isin(pair, twice)) if len(twice) else np.empty(0, np.int64)


def event_codes(events: pl.DataFrame) -> EventCodes:
    """Of the columns user_id and item_id, where none is missing."""
    users, items = in_threads(lambda name: codes_of(events[name]), ("user_id", "item_id"))
    return EventCodes(*users, *items)


def in_threads(work: Callable[[T], R], of: Sequence[T]) -> list[R]:
    """`work` of each, at the same time: numpy computes outside of Python's lock."""
    with ThreadPoolExecutor(len(of)) as pool:
        return list(pool.map(work, of))


def _compact(codes: np.ndarray, ids: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """The same codes without the ids that have none."""
    used = np.bincount(codes, minlength=len(ids)) > 0
    if used.all():
        return codes, ids
    number = (np.cumsum(used) - 1).astype(np.int32)
    return number[codes], ids.filter(pl.Series(used))


def codes_of(ids: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """[n] int32, for each id its rank among the distinct ones; and [D] the distinct ids, ascending.

    Ids are grouped by a 64-bit hash and then compared with the first of their group, so that ids with equal
    hashes are noticed and told apart.
    """
    grouped, first = _groups(ids.hash(0).to_numpy())
    distinct = ids.gather(pl.Series(first))
    if not (distinct.gather(pl.Series(grouped)) == ids).all():  # two ids with one hash
        distinct = ids.unique()
        rows = pl.Series(np.arange(len(distinct), dtype=np.int32))
        grouped = ids.replace_strict(distinct, rows).to_numpy()
    order = distinct.arg_sort().to_numpy()
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return rank[grouped], distinct.gather(pl.Series(order))


def _groups(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n] int32 number of each row's group of equal hashes, and [groups] int64 a row of each.

    Rows are sorted by as many bits of the hash as leave room for their number; hashes that differ in the
    other bits alone are then told apart.
    """
    if not len(hashes):
        return np.empty(0, np.int32), np.empty(0, np.int64)
    position_bits = int(len(hashes) - 1).bit_length()
    order = _packed_order(hashes, position_bits)
    whole = hashes[order]
    begins = _changes(whole)
    kept_bits = np.uint64((1 << (64 - position_bits)) - 1)
    mixed = np.flatnonzero(begins[1:] & (((whole[1:] ^ whole[:-1]) & kept_bits) == 0))
    if len(mixed):
        again = np.isin(whole & kept_bits, whole[mixed] & kept_bits)
        order[again] = order[again][np.argsort(whole[again], kind="stable")]
        by_bits = np.argsort((hashes[order[again]]) & kept_bits, kind="stable")
        order[again] = order[again][by_bits]
        begins = _changes(hashes[order])
    group = np.empty(len(order), np.int32)
    group[order] = np.cumsum(begins, dtype=np.int32) - 1
    return group, order[begins]


def _changes(values: np.ndarray) -> np.ndarray:
    """[n] bool: whether a value differs from the one before it; true for the first."""
    begins = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return begins


def stable_order(values: np.ndarray) -> np.ndarray:
    """[n] int64 positions that sort integers ascending, equal ones in their order, as a stable argsort.

    Value and position are packed into one 64-bit number where both fit, since numbers are sorted several
    times as fast as positions; wider values take two rounds, the lower bits first.
    """
    n = len(values)
    if n < 2:
        return np.arange(n, dtype=np.int64)
    low = values.min()
    wide = values if values.dtype == np.uint64 else values.astype(np.int64)
    shifted = (wide - wide.dtype.type(low)).view(np.uint64)  # what overflows is right as an unsigned number
    position_bits = int(n - 1).bit_length()
    value_bits = int(shifted.max()).bit_length()
    if value_bits + position_bits <= 64:
        return _packed_order(shifted, position_bits)
    room = np.uint64(64 - position_bits)
    order = stable_order(shifted & ((np.uint64(1) << room) - np.uint64(1)))
    result: np.ndarray = order[stable_order((shifted >> room)[order])]
    return result


def _packed_order(values: np.ndarray, position_bits: int) -> np.ndarray:
    bits = np.uint64(position_bits)
    packed = values << bits
    packed |= np.arange(len(values), dtype=np.uint64)
    packed.sort()
    packed &= (np.uint64(1) << bits) - np.uint64(1)
    result: np.ndarray = packed.view(np.int64)
    return result


def sorted_rows(keys: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """[n] int64 positions that sort rows by the integer columns `keys`, the first one first, equal rows in
    their order; and [n] bool, in that order, whether a row equals the one before it in all of them."""
    varying = [key for key in keys if len(key) and key.min() != key.max()]
    if not varying:
        return np.arange(len(keys[0]), dtype=np.int64), np.arange(len(keys[0])) > 0
    order = stable_order(varying[-1])
    for key in reversed(varying[:-1]):
        order = order[stable_order(key[order])]
    equal = np.ones(len(order), bool)
    equal[:1] = False
    for key in varying:
        ordered = key[order]
        equal[1:] &= ordered[1:] == ordered[:-1]
    return order, equal


def distinct(ascending: np.ndarray) -> np.ndarray:
    """[D] the distinct values of numbers in ascending order."""
    result: np.ndarray = ascending[_changes(ascending)]
    return result
