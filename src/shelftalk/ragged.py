"""Rows of different length in one flat array, so that samples, item names and searches are processed by whole
columns, not row by row.

Example: the rows [7, 8], [], [9] are the values [7, 8, 9] and the offsets [0, 2, 2, 3]; lengths [2, 0, 1],
row ids [0, 0, 2], positions [0, 1, 0].

Legend: N rows, P values of all rows together, G groups of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

ROWS_PER_GATHER = 200_000
"""Rows whose values are gathered at once."""


@dataclass(frozen=True, eq=False)
class Ragged:
    """Row n is `values[offsets[n] : offsets[n + 1]]`. `values` [P] of any numeric type, int64 where this file
    makes them; `offsets` [N + 1] int64, from 0 to P."""

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """[N] number of values in each row."""
        return np.diff(self.offsets)

    @property
    def row_ids(self) -> np.ndarray:
        """[P] the row of each value."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def positions(self) -> np.ndarray:
        """[P] the position of each value in its row, from 0."""
        result: np.ndarray = np.arange(len(self.values)) - np.repeat(self.offsets[:-1], self.lengths)
        return result

    @property
    def ends(self) -> np.ndarray:
        """[N] the index into `values` of the last value of each row that is not empty."""
        return self.offsets[1:] - 1

    def take(self, rows: np.ndarray) -> Ragged:
        """The rows of the numbers `rows`, repeats allowed."""
        return slices(self.values, self.offsets[rows], self.offsets[rows + 1])

    def merge_rows(self, offsets: np.ndarray) -> Ragged:
        """Neighbouring rows as one: row g holds the rows offsets[g] : offsets[g + 1]. `offsets` [G + 1]."""
        return Ragged(self.values, self.offsets[offsets])

    def filter_values(self, mask: np.ndarray) -> Ragged:
        """The same rows without the values where `mask` [P] is false."""
        before = np.concatenate([[0], np.cumsum(mask)])
        return Ragged(self.values[mask], before[self.offsets])


def ragged(rows: Iterable[Sequence[int]]) -> Ragged:
    """From rows one by one."""
    rows = list(rows)
    values = np.fromiter((value for row in rows for value in row), np.int64)
    return Ragged(values, offsets_of([len(row) for row in rows]))


def offsets_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """[N + 1] offsets of rows of these lengths: [2, 0, 1] -> [0, 2, 2, 3]."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def rank_within_row(rows: np.ndarray) -> np.ndarray:
    """[P] how many values of the same row come before each, for the row `rows` [P] of each value, ascending:
    [0, 0, 0, 2, 2] -> [0, 1, 2, 0, 1]."""
    return np.arange(len(rows)) - np.searchsorted(rows, rows)


def concatenated_ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[P] the numbers starts[n] : starts[n] + lengths[n] for each n in turn:
    [5, 0], [3, 2] -> [5, 6, 7, 0, 1]."""
    offsets = offsets_of(lengths)
    result: np.ndarray = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return result


def slices(values: np.ndarray, start: np.ndarray, stop: np.ndarray) -> Ragged:
    """Row n is `values[start[n] : stop[n]]`; slices may overlap. Some rows at a time, since the indices of
    all values take more memory than the values do."""
    offsets = offsets_of(stop - start)
    gathered = np.empty(offsets[-1], values.dtype)
    for first in range(0, len(start), ROWS_PER_GATHER):
        last = min(first + ROWS_PER_GATHER, len(start))
        rows, begin, end = slice(first, last), offsets[first], offsets[last]
        shift = start[rows] - offsets[first:last]  # from an index in the result to that in `values`
        gathered[begin:end] = values[np.arange(begin, end) + np.repeat(shift, stop[rows] - start[rows])]
    return Ragged(gathered, offsets)


def repeated(row: Sequence[int], number: int) -> Ragged:
    """The same row `number` times."""
    return Ragged(np.tile(np.array(row, np.int64), number), np.arange(number + 1, dtype=np.int64) * len(row))


def vstack(parts: Sequence[Ragged]) -> Ragged:
    """The rows of the first part, then those of the next; at least one part."""
    values = np.concatenate([part.values for part in parts])
    return Ragged(values, offsets_of(np.concatenate([part.lengths for part in parts])))


def hstack(columns: Sequence[Ragged]) -> Ragged:
    """Row n holds the rows n of all columns, one after the other:
    [[1], [2]] and [[3, 4], []] -> [[1, 3, 4], [2]]."""
    lengths = [column.lengths for column in columns]
    offsets = offsets_of(np.sum(lengths, axis=0))
    values = np.empty(offsets[-1], np.int64)
    start = offsets[:-1].copy()  # [N] where the next column's row starts
    for column, length in zip(columns, lengths, strict=True):
        shift = np.repeat(start - column.offsets[:-1], length)
        values[shift + np.arange(len(column.values))] = column.values
        start += length
    return Ragged(values, offsets)


def sample_mask(lengths: np.ndarray, numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[P] bool: of the lengths[n] positions of each row, numbers[n] drawn without replacement, uniformly."""
    order = _shuffled_order(lengths, rng)
    mask = np.empty(len(order), bool)
    mask[order] = concatenated_ranges(np.zeros(len(lengths), np.int64), lengths) < np.repeat(numbers, lengths)
    return mask


def shuffled(rows: Ragged, rng: np.random.Generator) -> Ragged:
    """The values of each row in random order."""
    return Ragged(rows.values[_shuffled_order(rows.lengths, rng)], rows.offsets)


def _shuffled_order(lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[P] a permutation that keeps every value in its row."""
    row_ids = np.repeat(np.arange(len(lengths)), lengths)
    # a random number below 1 never moves a value to another row
    return np.argsort(row_ids + rng.random(len(row_ids)), kind="stable")
