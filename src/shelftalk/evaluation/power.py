"""The smallest difference between two models that a test set could have shown.

    smallest effect = (z_(1 - level / 2) + z_power) SE

A true difference of this size is found, two-sided at 5 %, in 80 of 100 test sets of as many users: 2.80
standard errors of the paired difference. A difference that was not found may still be as large.

SE is that of the difference of two metrics on the same users, linearised (the delta method): with d_u the sum
over a user's rows of what the first has more than the second, c_u the number of these rows, and D = sum d /
sum c, the residuals e_u = d_u - D c_u give

    SE = sqrt(U / (U - 1) sum e_u^2) / sum c

For RMSE, the root of a mean m, the sums of each model are divided by 2 sqrt(m) first.

Bloom, "Minimum detectable effects: a simple way to report the statistical power of experimental designs",
Evaluation Review 19(5), 1995.

Legend: U users.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import polars as pl

from shelftalk.evaluation.significance import sums_per_user

LEVEL, POWER = 0.05, 0.8


def smallest_effect(frame_a: pl.DataFrame, frame_b: pl.DataFrame, metric: str) -> float:
    """The smallest true difference in `metric` that these users would have shown with 80 % power; infinite
    for a single user, 0 where the models agree on all of them.

    Both frames are per-user tables of the same rows.
    """
    quantile = NormalDist().inv_cdf
    return (quantile(1 - LEVEL / 2) + quantile(POWER)) * paired_standard_error(frame_a, frame_b, metric)


def paired_standard_error(frame_a: pl.DataFrame, frame_b: pl.DataFrame, metric: str) -> float:
    """The standard error of the difference of the two models' `metric` over users."""
    (sums_a, counts), (sums_b, _) = sums_per_user(frame_a, [metric]), sums_per_user(frame_b, [metric])
    first, second = (_residuals(sums[:, 0], counts, metric) for sums in (sums_a, sums_b))
    users = len(counts)
    if users < 2:
        return np.inf
    return float(np.sqrt(users / (users - 1) * ((first - second) ** 2).sum()) / counts.sum())


def _residuals(sums: np.ndarray, counts: np.ndarray, metric: str) -> np.ndarray:
    """[U] what each user adds to the metric's deviation, times the number of rows."""
    mean = sums.sum() / counts.sum()
    residuals = sums - mean * counts
    if metric != "rmse":
        result: np.ndarray = residuals
        return result
    return residuals / (2 * np.sqrt(mean)) if mean > 0 else np.zeros(len(sums))
