"""Scores of several recommenders combined by a weighted mean of their logarithms.

    score(j) = sum over models m of w_m log(s_m(j) + FLOOR max_i s_m(i)),   w_m >= 0, sum of w_m 1

Used by "aligned+prior" and by "fusion". A log-linear opinion pool: Genest and Zidek, "Combining probability
distributions", Statistical Science 1, 1986.
"""

from __future__ import annotations

import numpy as np

FLOOR = 1e-3
"""Share of a request's highest score that is added to every item's, so that no item has the score 0."""


def log_scores(scores: np.ndarray) -> np.ndarray:
    """[..., I] the logarithms of scores of at least 0, of the same type; all alike where all scores are 0."""
    highest = scores.max(axis=-1, keepdims=True, initial=0.0)
    result: np.ndarray = np.log(scores + FLOOR * np.where(highest > 0, highest, 1.0).astype(scores.dtype))
    return result
