"""The smallest effect: by hand, for users with several rows, and found in 80 of 100 simulated test sets."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from shelftalk.evaluation.power import paired_standard_error, smallest_effect
from shelftalk.evaluation.significance import paired_difference

USERS = [f"u{n:04}" for n in range(200)]


def table(values: np.ndarray, metric: str = "ndcg@10", users: list[str] | None = None) -> pl.DataFrame:
    items = [f"i{n}" for n in range(len(values))]
    return pl.DataFrame({"user": users or USERS[: len(values)], "item": items, metric: values})


def test_with_one_row_per_user_it_is_the_standard_error_of_the_mean_difference() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(200), rng.random(200)
    expected = (a - b).std(ddof=1) / np.sqrt(200)
    assert paired_standard_error(table(a), table(b), "ndcg@10") == pytest.approx(expected)
    # z of .975 and of .8
    assert smallest_effect(table(a), table(b), "ndcg@10") == pytest.approx((1.959964 + 0.841621) * expected)


@pytest.mark.parametrize("metric", ["rmse", "mae"])
def test_ratings_of_one_user_go_together_as_in_the_bootstrap(metric: str) -> None:
    rng = np.random.default_rng(1)
    users = [user for n, user in enumerate(USERS) for _ in range(1 + n % 7)]
    shared = np.repeat(rng.normal(0, 0.5, 200), [1 + n % 7 for n in range(200)])
    columns = {"rmse": "squared_error", "mae": "absolute_error"}
    errors = [np.abs(rng.normal(0, s, len(users)) + shared) for s in (1.0, 0.9)]
    first, second = (
        table(error**2 if metric == "rmse" else error, columns[metric], users) for error in errors
    )
    difference = paired_difference(first, second, metric, resamples=4000, permutations=10)
    by_bootstrap = (difference.high - difference.low) / (2 * 1.96)
    assert paired_standard_error(first, second, metric) == pytest.approx(by_bootstrap, rel=0.06)


def test_a_true_difference_of_that_size_is_found_in_eighty_of_a_hundred_test_sets() -> None:
    rng = np.random.default_rng(2)
    users, deviation = 150, 0.4
    noise = rng.normal(0, deviation, (4000, users))
    typical = [smallest_effect(table(row), table(0 * row), "ndcg@10") for row in noise[:50]]
    effect = float(np.mean(typical))
    sets = noise + effect
    z = sets.mean(axis=1) / (sets.std(axis=1, ddof=1) / np.sqrt(users))
    assert (np.abs(z) > 1.959964).mean() == pytest.approx(0.8, abs=0.03)


def test_models_that_agree_show_any_difference_and_one_user_shows_none() -> None:
    same = table(np.array([1.0, 0.0, 1.0]))
    assert smallest_effect(same, same, "ndcg@10") == 0
    assert smallest_effect(table(np.ones(1)), table(np.zeros(1)), "ndcg@10") == np.inf
    perfect = table(np.zeros(3), "squared_error")
    assert smallest_effect(perfect, perfect, "rmse") == 0
