"""Totals of many users: draws by groups and by the normal limit have the distribution of plain ones."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import pytest

from shelftalk.evaluation import resampling, significance
from shelftalk.evaluation.metrics import ndcg, recall
from shelftalk.evaluation.resampling import chunks, exchanged_sums, grouped, resampled_totals
from shelftalk.evaluation.significance import intervals_side_by_side, paired_difference, paired_differences

DRAWS = 20_000


def ranks(users: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).integers(1, 60, users).astype(np.float64)
    return np.where(drawn <= 20, drawn, np.inf)


def table(rank: np.ndarray) -> pl.DataFrame:
    users = [f"u{n:07}" for n in range(len(rank))]
    return pl.DataFrame(
        {"user": users, "item": users, "recall@10": recall(rank, 10), "ndcg@10": ndcg(rank, 10)}
    )


def ratings(users: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    names = [f"u{n:07}" for n in np.sort(rng.integers(0, users, 3 * users))]
    error = rng.normal(0, 1, 3 * users)
    items = [f"i{n}" for n in range(3 * users)]
    return pl.DataFrame(
        {"user": names, "item": items, "squared_error": error**2, "absolute_error": np.abs(error)}
    )


@pytest.fixture
def every_user_is_many(monkeypatch):
    for module in (resampling, significance):
        monkeypatch.setattr(module, "MANY_USERS", 0)


def test_groups_are_the_different_rows_and_their_numbers():
    values, sizes = grouped(np.array([[2.0, 1.0], [1.0, 5.0], [2.0, 1.0], [2.0, 0.0]]))
    assert values.tolist() == [[1.0, 5.0], [2.0, 0.0], [2.0, 1.0]] and sizes.tolist() == [1, 1, 2]


def test_chunks_sum_to_the_total_and_hold_at_least_one_row(monkeypatch):
    monkeypatch.setattr(resampling, "CELLS", 10)
    assert list(chunks(7, 3)) == [3, 3, 1] and list(chunks(2, 100)) == [1, 1] and list(chunks(3, 0)) == [3]


@pytest.mark.parametrize("most_groups", [5000, 0], ids=["by groups", "normal"])
def test_totals_have_the_mean_and_covariance_of_draws_with_replacement(
    every_user_is_many, monkeypatch, most_groups
):
    """Of U draws from U users the totals have the mean of the users' total and U times their covariance."""
    monkeypatch.setattr(resampling, "MOST_GROUPS", most_groups)
    rank, rng = ranks(400, 1), np.random.default_rng(2)
    sums, counts = np.column_stack([recall(rank, 10), ndcg(rank, 10)]), rng.integers(1, 4, 400).astype(float)
    totals = np.column_stack(resampled_totals([sums, counts], DRAWS, rng))
    values = np.column_stack([sums, counts])
    assert len(totals) == DRAWS
    assert totals.mean(axis=0) == pytest.approx(values.sum(axis=0), rel=0.005)
    expected = 400 * np.cov(values, rowvar=False, bias=True)
    assert np.cov(totals, rowvar=False) == pytest.approx(expected, rel=0.05, abs=0.05 * expected.max())


@pytest.mark.parametrize("most_groups", [5000, 0], ids=["by groups", "normal"])
def test_exchanged_sums_have_mean_zero_and_the_variance_of_fair_signs(
    every_user_is_many, monkeypatch, most_groups
):
    monkeypatch.setattr(resampling, "MOST_GROUPS", most_groups)
    half_gap = np.random.default_rng(3).choice([-0.5, 0.2, 0.5], 300)
    sums = np.concatenate(list(exchanged_sums(half_gap, DRAWS, np.random.default_rng(4))))
    assert len(sums) == DRAWS and sums.mean() == pytest.approx(0, abs=0.2)
    assert sums.var() == pytest.approx((half_gap**2).sum(), rel=0.04)


def test_exchanged_sums_of_one_group_are_only_those_that_signs_can_give(every_user_is_many):
    sums = np.concatenate(list(exchanged_sums(np.array([0.5, -0.5, 0.5]), DRAWS, np.random.default_rng(5))))
    shares = {value: float((sums == value).mean()) for value in np.unique(sums).tolist()}
    assert shares == pytest.approx({-1.5: 1 / 8, -0.5: 3 / 8, 0.5: 3 / 8, 1.5: 1 / 8}, abs=0.015)


def test_intervals_and_p_of_many_users_are_those_of_drawing_one_by_one(monkeypatch):
    frames = {"a": table(ranks(3000, 6)), "b": table(ranks(3000, 7))}
    names = ["recall@10", "ndcg@10"]
    plain = intervals_side_by_side(frames, names, 4000), paired_difference(*frames.values(), "ndcg@10", 4000)
    for module in (resampling, significance):
        monkeypatch.setattr(module, "MANY_USERS", 0)
    fast = intervals_side_by_side(frames, names, 4000), paired_difference(*frames.values(), "ndcg@10", 4000)
    for model in frames:
        for name in names:
            assert fast[0][model][name] == pytest.approx(plain[0][model][name], rel=0.01)
    assert fast[1].value == plain[1].value
    assert (fast[1].low, fast[1].high, fast[1].p) == pytest.approx(
        (plain[1].low, plain[1].high, plain[1].p), abs=0.02
    )
    assert fast[0]["a"] != plain[0]["a"]  # other draws: the switch was made


def test_errors_of_many_users_are_drawn_from_the_normal_limit(monkeypatch):
    frames = {"a": ratings(3000, 8)}
    plain = intervals_side_by_side(frames, ["rmse", "mae"], 4000)["a"]
    for module in (resampling, significance):
        monkeypatch.setattr(module, "MANY_USERS", 0)
    monkeypatch.setattr(resampling, "MOST_GROUPS", 100)
    fast = intervals_side_by_side(frames, ["rmse", "mae"], 4000)["a"]
    for name in ("rmse", "mae"):
        assert fast[name] == pytest.approx(plain[name], rel=0.002)


def test_pairs_measured_together_are_the_pairs_measured_alone_to_the_last_digit():
    frames = {name: table(ranks(500, seed)) for seed, name in enumerate("abc")}
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    together = paired_differences(frames, pairs, "ndcg@10", 300, 500, seed=3)
    assert together == [
        paired_difference(frames[x], frames[y], "ndcg@10", 300, 500, seed=3) for x, y in pairs
    ]
    assert paired_differences({}, [], "ndcg@10") == []


@pytest.mark.slow
def test_half_a_million_users_take_seconds():
    frames = {name: table(ranks(500_000, seed)) for seed, name in enumerate("ab")}
    begun = time.process_time()
    intervals_side_by_side(frames, ["recall@10", "ndcg@10"])
    paired_difference(*frames.values(), "ndcg@10")
    assert time.process_time() - begun < 30
