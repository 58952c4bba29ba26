"""The intervals cover the truth as often as they claim, under noise of the users and of the seeds."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from shelftalk.evaluation.over_seeds import SeedNoise, crossed_interval, gap, over_seeds, pooled_noise


def tables(values: np.ndarray, metric: str = "ndcg@10") -> list[pl.DataFrame]:
    """[S, U] values as one per-user table per seed."""
    users = [f"u{number:04}" for number in range(values.shape[1])]
    return [pl.DataFrame({"user": users, "item": ["i"] * len(users), metric: row}) for row in values]


def drawn(
    rng: np.random.Generator, variants: int, users: int, seed_noise: float, shift: float = 0.0
) -> np.ndarray:
    """[V, 3, U]: tastes that all share, noise of each seed, of each user, of both; the second variant better
    by `shift`."""
    shape = (variants, 3, users)
    noise = (
        rng.normal(0, 0.3, (variants, 1, users))
        + rng.normal(0, seed_noise, (variants, 3, 1))
        + rng.normal(0, 0.5, shape)
    )
    values = rng.normal(0, 1, users) + noise
    values[1] += shift
    return values


def interval(
    values: np.ndarray, rng: np.random.Generator, resamples: int = 300
) -> tuple[float, float, float]:
    """Low, high and p of the second variant minus the first."""
    difference = values[1] - values[0]  # [S, U]
    weights = (
        rng.multinomial(values.shape[2], np.full(values.shape[2], 1 / values.shape[2]), resamples)
        / values.shape[2]
    )
    return crossed_interval(
        difference.mean(axis=1), weights @ difference.T, pooled_noise(values.mean(axis=2)), rng
    )


def test_the_noise_of_the_seeds_is_what_variants_and_seeds_do_not_explain() -> None:
    values = np.array([[1.0, 3.0], [2.0, 4.0], [4.0, 5.0]])  # residuals -1/6, +1/6; -1/6, +1/6; +1/3, -1/3
    noise = pooled_noise(values)
    assert noise is not None and noise.freedom == 2
    variance = (4 * (1 / 6) ** 2 + 2 * (1 / 3) ** 2) / 2
    # of a difference of two means over two seeds
    assert noise.deviation == pytest.approx(np.sqrt(2 * variance / 2))


def test_of_two_variants_the_noise_is_the_spread_of_their_differences() -> None:
    per_seed = np.array([0.1, 0.4, 0.2])
    noise = pooled_noise(np.stack([per_seed, np.zeros(3)]))
    assert noise == SeedNoise(pytest.approx(per_seed.std(ddof=1) / np.sqrt(3)), 2)
    assert pooled_noise(np.array([[0.1], [0.4]])) is None


def test_users_who_are_all_alike_leave_students_interval_over_the_seeds() -> None:
    differences = np.array([0.1, 0.4, 0.2])
    first, second = np.tile(differences[:, None], (1, 50)), np.zeros((3, 50))
    result = gap(tables(first), tables(second), "ndcg@10", resamples=40_000)
    reach = 4.3027 * differences.std(ddof=1) / np.sqrt(3)  # Student's t at .975 with 2 degrees of freedom
    mean = differences.mean()
    assert result.value == pytest.approx(mean) and result.per_seed == pytest.approx(differences.tolist())
    assert (result.low, result.high) == (
        pytest.approx(mean - reach, abs=0.03),
        pytest.approx(mean + reach, abs=0.03),
    )


def test_seeds_that_all_agree_leave_the_interval_over_the_users() -> None:
    one = np.random.default_rng(0).normal(0.2, 1, 400)
    first, second = np.tile(one, (3, 1)), np.zeros((3, 400))
    result = gap(tables(first), tables(second), "ndcg@10", resamples=4000)
    reach = 1.96 * one.std() / np.sqrt(400)
    assert (result.low, result.high) == (
        pytest.approx(one.mean() - reach, abs=0.01),
        pytest.approx(one.mean() + reach, abs=0.01),
    )
    assert (result.users.low, result.users.high) == (
        pytest.approx(result.low, abs=0.01),
        pytest.approx(result.high, abs=0.01),
    )


def test_one_seed_speaks_of_users_alone() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.3, 1, (1, 300)), rng.normal(0, 1, (1, 300))
    result = gap(tables(first), tables(second), "ndcg@10")
    assert (result.low, result.high) == (
        pytest.approx(result.users.low, abs=0.02),
        pytest.approx(result.users.high, abs=0.02),
    )


def test_rmse_is_the_root_of_each_seeds_own_mean() -> None:
    squares = [np.array([[4.0, 0.0], [16.0, 2.0]]), np.array([[1.0, 1.0], [1.0, 1.0]])]
    first, second = (tables(square, "squared_error") for square in squares)
    result = gap(first, second, "rmse")
    assert result.per_seed == pytest.approx((np.sqrt(2) - 1, 3 - 1))
    assert result.value == pytest.approx((np.sqrt(2) + 1) / 2)


@pytest.mark.parametrize("seed_noise", [0.0, 0.05])
def test_a_null_is_seldom_taken_for_an_effect(seed_noise: float) -> None:
    rng = np.random.default_rng(2)
    intervals = [interval(drawn(rng, 6, 200, seed_noise), rng) for _ in range(200)]
    assert all((low > 0 or high < 0) == (p < 0.05) for low, high, p in intervals if not 0.02 < p < 0.1)
    missed = sum(low > 0 or high < 0 for low, high, _ in intervals)
    assert 2 <= missed <= 20  # 10 expected of 200; over users alone it would be 34 under the noisy seeds


def test_a_planted_effect_is_result() -> None:
    rng = np.random.default_rng(3)
    result = [interval(drawn(rng, 6, 200, 0.02, shift=0.25), rng)[0] > 0 for _ in range(40)]
    assert sum(result) >= 36


def test_a_planted_effect_has_a_small_p_and_a_null_has_not() -> None:
    rng = np.random.default_rng(4)
    values = drawn(rng, 3, 300, 0.0, shift=0.3)
    better, alike = (gap(tables(values[position]), tables(values[0]), "ndcg@10") for position in (1, 2))
    assert better.users.p < 0.01 < alike.users.p
    assert better.p < 0.02 < alike.p
    assert better.low > 0 and alike.low < 0 < alike.high


def test_tables_of_unlike_users_are_refused() -> None:
    one, two = tables(np.ones((2, 3))), tables(np.ones((2, 4)))
    with pytest.raises(ValueError, match="same users"):
        gap(one, two, "ndcg@10")
    with pytest.raises(ValueError, match="two seeds"):
        gap([one[0], two[0]], one, "ndcg@10")


def test_one_model_under_several_seeds_has_their_mean_deviation_and_range() -> None:
    values = np.array([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    result = over_seeds(tables(values), "ndcg@10", resamples=500)
    assert result.per_seed == pytest.approx((2 / 3, 1.0, 1 / 3))
    assert (result.mean, result.deviation) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (result.lowest, result.highest) == (pytest.approx(1 / 3), 1.0)
    assert result.low < result.mean < result.high


def test_users_who_are_all_alike_leave_students_interval_around_the_mean_of_the_seeds() -> None:
    levels = np.array([0.4, 0.7, 0.5])
    result = over_seeds(tables(np.tile(levels[:, None], (1, 50))), "ndcg@10", resamples=40_000)
    reach = 4.3027 * levels.std(ddof=1) / np.sqrt(3)
    assert (result.low, result.high) == pytest.approx(
        (levels.mean() - reach, levels.mean() + reach), abs=0.03
    )


def test_one_seed_of_one_model_has_the_interval_over_its_users_and_no_deviation() -> None:
    values = np.random.default_rng(5).normal(0.3, 1, (1, 400))
    result = over_seeds(tables(values), "ndcg@10")
    reach = 1.96 * values.std() / np.sqrt(400)
    assert result.deviation is None and result.lowest == result.highest == result.mean
    assert (result.low, result.high) == pytest.approx((result.mean - reach, result.mean + reach), abs=0.015)


def test_the_interval_over_seeds_covers_the_truth_of_users_and_seeds() -> None:
    rng = np.random.default_rng(6)
    covered = 0
    for run in range(200):
        values = rng.normal(0, 1, (1, 150)) + rng.normal(0, 0.1, (3, 1)) + rng.normal(0, 0.5, (3, 150))
        result = over_seeds(tables(values), "ndcg@10", resamples=300, seed=run)
        covered += result.low < 0 < result.high
    assert 180 <= covered <= 199  # 190 expected


def test_seeds_with_other_users_are_refused() -> None:
    one, two = tables(np.ones((2, 3)))
    with pytest.raises(ValueError, match="differ in their users"):
        over_seeds([one, two.with_columns(user=pl.col("user") + "x")], "ndcg@10")
    with pytest.raises(ValueError, match="differ in their users"):
        over_seeds([one, two.head(2)], "ndcg@10")
