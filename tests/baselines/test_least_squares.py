"""Ridge regressions row by row, against one regression at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import random as random_matrix

from shelftalk.baselines import least_squares
from shelftalk.baselines.least_squares import ridge_rows


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 5), st.integers(1, 40), st.integers(0, 99))
def test_each_row_is_its_own_regression(rows: int, columns: int, size: int, cells: int, seed: int):
    rng = np.random.default_rng(seed)
    targets = random_matrix(rows, columns, density=0.4, format="csr", random_state=rng)
    features, base = rng.normal(size=(columns, size)), np.diag(rng.uniform(0.5, 3, size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(least_squares, "CELLS", cells)  # a few rows of one length at a time
        solved = ridge_rows(features, targets, base, 0.7)
    for row in range(rows):
        own = features[targets[[row]].indices]
        expected = np.linalg.solve(base + 0.7 * own.T @ own, own.T @ targets[[row]].data)
        assert solved[row] == pytest.approx(expected)
