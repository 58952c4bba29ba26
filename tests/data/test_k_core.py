"""The k-core: known counts, no dependence on row order, and a remedy where nothing is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.data.k_core import k_core
from shelftalk.errors import NothingLeft

BEAUTY = Path(__file__).parents[3] / "shared" / "data" / "beauty" / "interactions.parquet"


def frame(pairs: list[tuple[int, int]]) -> pl.DataFrame:
    schema = {"user_id": pl.String, "item_id": pl.String}
    return pl.DataFrame([(f"u{user}", f"i{item}") for user, item in pairs], schema=schema, orient="row")


def core_by_definition(pairs: set[tuple[int, int]], k: int) -> set[tuple[int, int]]:
    """One violating user or item at a time, written as slowly and plainly as can be."""
    for side in (0, 1):
        for node in {pair[side] for pair in pairs}:
            mine = {pair for pair in pairs if pair[side] == node}
            if len(mine) < k:
                return core_by_definition(pairs - mine, k)
    return pairs


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1), st.integers(0, 4), st.randoms())
def test_it_is_the_largest_core_whatever_the_row_order(pairs, k, random):
    expected = core_by_definition(pairs, k)
    rows = list(pairs)
    random.shuffle(rows)
    if not expected:
        with pytest.raises(NothingLeft):
            k_core(frame(rows), k)
    else:
        assert set(k_core(frame(rows), k)[0].rows()) == set(frame(list(expected)).rows())


def test_it_goes_on_until_nothing_changes():
    """A chain: each removal lets the next user or item fall below 2, and a square at its end stays."""
    chain = [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2)]
    square = [(3, 2), (3, 3), (4, 2), (4, 3)]
    kept, passes = k_core(frame(chain + square), 2)
    assert kept.rows() == frame(square).rows() and passes == 5


@pytest.mark.parametrize("k", [0, 1])
def test_a_k_of_0_or_1_removes_nothing(k):
    kept, passes = k_core(frame([(0, 0), (1, 1)]), k)
    assert len(kept) == 2 and passes == 0


def test_when_nothing_is_left_the_largest_possible_k_is_named():
    triangle = [(user, item) for user in range(3) for item in range(3)]
    with pytest.raises(NothingLeft, match=r"k = 9 leaves nothing of 9 events; set data\.k_core = 3 or less"):
        k_core(frame(triangle), 9)


def test_beauty_is_already_its_own_core():
    if not BEAUTY.exists():
        pytest.skip("the shared data folder with Amazon Beauty is not here")
    events = pl.read_parquet(BEAUTY)
    kept, passes = k_core(events[np.random.default_rng(0).permutation(len(events))], 5)
    assert (kept["user_id"].n_unique(), kept["item_id"].n_unique(), len(kept), passes) == (
        22_363,
        12_101,
        198_502,
        0,
    )
