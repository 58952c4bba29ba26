"""Ridge regressions row by row: the half-step that alternating least squares repeats.

Legend: N rows, J columns, K features, L values of a row.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

CELLS = 4_000_000
"""Values gathered at a time: 32 MB of float64."""


def ridge_rows(
    features: np.ndarray, targets: csr_matrix, base: np.ndarray, weight: float = 1.0
) -> np.ndarray:
    """[N, K]: for each row of `targets` [N, J], (base + weight F^T F)^-1 F^T t, where t [L] are the row's
    values and F [L, K] the `features` [J, K] of their columns; zeros for a row without values.

    Rows of one length are solved together. `base` [K, K] is positive definite.
    """
    solved = np.zeros((targets.shape[0], features.shape[1]))
    lengths = np.diff(targets.indptr)
    for length in np.unique(lengths[lengths > 0]).tolist():
        rows = np.flatnonzero(lengths == length)
        size = max(1, CELLS // (max(length, features.shape[1]) * features.shape[1]))
        for chunk in np.split(rows, range(size, len(rows), size)):
            cells = targets.indptr[chunk][:, None] + np.arange(length)  # [rows, L]
            of_row = features[targets.indices[cells]]  # [rows, L, K]
            transposed = of_row.transpose(0, 2, 1)
            sums = base + weight * (transposed @ of_row)  # [rows, K, K]
            solved[chunk] = np.linalg.solve(sums, transposed @ targets.data[cells][:, :, None])[:, :, 0]
    return solved
