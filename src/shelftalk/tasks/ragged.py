"""Rows of different length in one flat array: samples are put together by whole columns, not one by one.

Legend: N rows, P values of all rows together, G groups of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

GATHERED_AT_ONCE = 200_000
"""Rows whose values are looked up at once."""


@dataclass(frozen=True, eq=False)
class Ragged:
    """Row n is `values[bounds[n] : bounds[n + 1]]`. `values` [P] of any integer type, int64 where this file makes them; `bounds`
    [N + 1] int64, from 0 to P."""

    values: np.ndarray
    bounds: np.ndarray

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.bounds[row] : self.bounds[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """[N] values in each row."""
        return np.diff(self.bounds)

    @property
    def owner(self) -> np.ndarray:
        """[P] the row of each value."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def place(self) -> np.ndarray:
        """[P] the place of each value in its row, from 0."""
        return np.arange(len(self.values)) - np.repeat(self.bounds[:-1], self.lengths)

    @property
    def ends(self) -> np.ndarray:
        """[N] the index into `values` of the last value of each row; meant for rows of which none is empty."""
        return self.bounds[1:] - 1

    def take(self, rows: np.ndarray) -> Ragged:
        """The rows of the numbers `rows`, repeats allowed."""
        return Ragged(*_gathered(self.values, self.bounds[rows], self.bounds[rows + 1]))

    def merged(self, bounds: np.ndarray) -> Ragged:
        """Neighbouring rows as one: row g holds the rows bounds[g] : bounds[g + 1]. `bounds` [G + 1]."""
        return Ragged(self.values, self.bounds[bounds])

    def kept(self, keep: np.ndarray) -> Ragged:
        """The same rows without the values where `keep` [P] is false."""
        before = np.concatenate([[0], np.cumsum(keep)])
        return Ragged(self.values[keep], before[self.bounds])


def ragged(rows: Iterable[Sequence[int]]) -> Ragged:
    """From rows one by one."""
    rows = list(rows)
    values = np.fromiter((value for row in rows for value in row), np.int64)
    return Ragged(values, bounds_of([len(row) for row in rows]))


def bounds_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """[N + 1] bounds of rows of these lengths."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def rank_within_row(rows: np.ndarray) -> np.ndarray:
    """[P] how many values of the same row stand before each, for the row `rows` [P] of each value, ascending:
    [0, 0, 0, 2, 2] -> [0, 1, 2, 0, 1]."""
    return np.arange(len(rows)) - np.searchsorted(rows, rows)


def concatenated_ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[P] the numbers starts[n] : starts[n] + lengths[n] for each n in turn: [5, 0], [3, 2] -> [5, 6, 7, 0, 1]."""
    offsets = bounds_of(lengths)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)


def slices(values: np.ndarray, start: np.ndarray, stop: np.ndarray) -> Ragged:
    """Row n is `values[start[n] : stop[n]]`; slices may overlap."""
    return Ragged(*_gathered(values, start, stop))


def repeated(row: Sequence[int], number: int) -> Ragged:
    """The same row `number` times."""
    return Ragged(np.tile(np.array(row, np.int64), number), np.arange(number + 1, dtype=np.int64) * len(row))


def stacked(parts: Sequence[Ragged]) -> Ragged:
    """The rows of all parts, one part below the other; at least one part."""
    values = np.concatenate([part.values for part in parts])
    return Ragged(values, bounds_of(np.concatenate([part.lengths for part in parts])))


def side_by_side(columns: Sequence[Ragged]) -> Ragged:
    """Row n holds the rows n of all columns, one behind the other."""
    lengths = [column.lengths for column in columns]
    bounds = bounds_of(np.sum(lengths, axis=0))
    values = np.empty(bounds[-1], np.int64)
    begin = bounds[:-1].copy()  # [N] where the next column's row begins
    for column, length in zip(columns, lengths, strict=True):
        values[np.repeat(begin - column.bounds[:-1], length) + np.arange(len(column.values))] = column.values
        begin += length
    return Ragged(values, bounds)


def drawn_places(lengths: np.ndarray, numbers: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """[P] bool: of each row's `lengths[n]` places, `numbers[n]` drawn without replacement, uniformly."""
    order = _shuffle(lengths, draw)
    chosen = np.empty(len(order), bool)
    chosen[order] = np.arange(len(order)) - np.repeat(bounds_of(lengths)[:-1], lengths) < np.repeat(numbers, lengths)
    return chosen


def shuffled(rows: Ragged, draw: np.random.Generator) -> Ragged:
    """The values of each row in an order drawn by chance."""
    return Ragged(rows.values[_shuffle(rows.lengths, draw)], rows.bounds)


def _shuffle(lengths: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """[P] a permutation that keeps every value in its row."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    return np.argsort(owner + draw.random(len(owner)), kind="stable")  # chance below one never moves a value to another row


def _gathered(values: np.ndarray, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Some rows at a time, since the places of all values take more memory than the values do."""
    bounds = bounds_of(stop - start)
    found = np.empty(bounds[-1], values.dtype)
    for first in range(0, len(start), GATHERED_AT_ONCE):
        rows = slice(first, first + GATHERED_AT_ONCE)
        begin, end = bounds[first], bounds[min(first + GATHERED_AT_ONCE, len(start))]
        places = np.arange(begin, end) + np.repeat(start[rows] - bounds[:-1][rows], stop[rows] - start[rows])
        found[begin:end] = values[places]
    return found, bounds
