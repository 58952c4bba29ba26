"""Ragged rows: every operation does what the same one on lists of lists does."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelftalk.ragged import (
    Ragged,
    hstack,
    offsets_of,
    ragged,
    repeated,
    sample_mask,
    shuffled,
    slices,
    vstack,
)

ROWS = st.lists(st.lists(st.integers(-5, 50), max_size=5), max_size=7)


def lists(rows: Ragged) -> list[list[int]]:
    """The rows one by one, once it is sure that values and offsets fit together."""
    assert rows.values.dtype == rows.offsets.dtype == np.int64
    assert rows.offsets[0] == 0 and rows.offsets[-1] == len(rows.values)
    return [rows[row].tolist() for row in range(len(rows))]


@given(ROWS)
def test_rows_are_kept_as_they_are_and_know_their_lengths_row_ids_and_positions(rows):
    made = ragged(rows)
    assert lists(made) == rows and len(made) == len(rows)
    assert made.lengths.tolist() == [len(row) for row in rows]
    assert made.row_ids.tolist() == [number for number, row in enumerate(rows) for _ in row]
    assert made.positions.tolist() == [position for row in rows for position in range(len(row))]


@given(st.data(), ROWS.filter(bool))
def test_rows_are_taken_in_any_order_and_again(data, rows):
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1)))
    assert lists(ragged(rows).take(np.array(wanted, np.int64))) == [rows[row] for row in wanted]


@given(st.data(), ROWS)
def test_neighbouring_rows_are_merged(data, rows):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)))))
    offsets = [0, *cuts, len(rows)]
    groups = [rows[start:stop] for start, stop in zip(offsets, offsets[1:], strict=False)]
    assert lists(ragged(rows).merge_rows(np.array(offsets))) == [
        [value for row in group for value in row] for group in groups
    ]


@given(st.data(), ROWS)
def test_values_are_kept_in_their_rows(data, rows):
    keep = [[data.draw(st.booleans()) for _ in row] for row in rows]
    flat = np.array([one for row in keep for one in row], bool)
    kept = [
        [value for value, one in zip(row, ones, strict=True) if one]
        for row, ones in zip(rows, keep, strict=True)
    ]
    assert lists(ragged(rows).filter_values(flat)) == kept


@given(st.data(), st.integers(1, 4), st.integers(0, 6))
def test_columns_are_concatenated_row_by_row(data, columns, number):
    row = st.lists(st.integers(0, 9), max_size=4)
    made = [data.draw(st.lists(row, min_size=number, max_size=number)) for _ in range(columns)]
    joined = [[value for column in made for value in column[position]] for position in range(number)]
    assert lists(hstack([ragged(column) for column in made])) == joined


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_rows_of_parts_follow_each_other(parts):
    assert lists(vstack([ragged(part) for part in parts])) == [row for part in parts for row in part]


@given(st.data(), st.lists(st.integers(0, 9), max_size=12))
def test_slices_may_overlap_and_be_empty(data, values):
    pairs = [sorted(pair) for pair in data.draw(st.lists(st.tuples(*[st.integers(0, len(values))] * 2)))]
    start, stop = np.array(pairs, np.int64).reshape(-1, 2).T
    assert lists(slices(np.array(values, np.int64), start, stop)) == [
        values[first:last] for first, last in pairs
    ]


@given(st.lists(st.integers(0, 9), max_size=4), st.integers(0, 5))
def test_one_row_is_repeated(row, number):
    assert lists(repeated(row, number)) == [row] * number


@given(st.lists(st.integers(0, 9)))
def test_offsets_are_sums_of_lengths(lengths):
    assert offsets_of(lengths).tolist() == [sum(lengths[:position]) for position in range(len(lengths) + 1)]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=8), st.integers(0, 9))
def test_exactly_the_requested_number_of_positions_of_each_row_is_drawn(pairs, seed):
    lengths = np.array([max(pair) for pair in pairs], np.int64)
    numbers = np.array([min(pair) for pair in pairs], np.int64)
    drawn = sample_mask(lengths, numbers, np.random.default_rng(seed))
    assert len(drawn) == lengths.sum()
    assert [
        int(drawn[a:b].sum()) for a, b in zip(offsets_of(lengths), offsets_of(lengths)[1:], strict=False)
    ] == numbers.tolist()


def test_every_choice_of_positions_is_equally_likely():
    drawn = sample_mask(np.full(12_000, 4), np.full(12_000, 2), np.random.default_rng(0)).reshape(-1, 4)
    met = Counter(tuple(np.flatnonzero(row).tolist()) for row in drawn)
    assert len(met) == 6 and all(number == pytest.approx(2000, rel=0.1) for number in met.values())


@given(ROWS, st.integers(0, 9))
def test_a_value_is_shuffled_within_its_row(rows, seed):
    assert [sorted(row) for row in lists(shuffled(ragged(rows), np.random.default_rng(seed)))] == [
        sorted(row) for row in rows
    ]


def test_every_order_of_a_row_is_equally_likely():
    orders = Counter(map(tuple, lists(shuffled(repeated([1, 2, 3], 12_000), np.random.default_rng(0)))))
    assert set(orders) == set(permutations([1, 2, 3]))
    assert all(number == pytest.approx(2000, rel=0.1) for number in orders.values())
