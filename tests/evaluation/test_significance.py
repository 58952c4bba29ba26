"""Intervals and p values: against scipy, over users, repeatable, and quick enough for every run."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import pytest
from scipy import stats

from shelftalk.evaluation import resampling, significance
from shelftalk.evaluation.significance import (
    Difference,
    bootstrap_intervals,
    intervals_side_by_side,
    paired_difference,
)

RNG = np.random.default_rng(0)


def ranking_frame(values: np.ndarray) -> pl.DataFrame:
    users = [f"u{n:06}" for n in range(len(values))]
    columns = {name: values for name in ("hr@1", "hr@5", "hr@10", "ndcg@1", "ndcg@5", "ndcg@10")}
    return pl.DataFrame({"user": users, "item": users, **columns})


def rating_frame(users: list[str], errors: np.ndarray) -> pl.DataFrame:
    items = [f"i{n}" for n in range(len(users))]
    return pl.DataFrame(
        {"user": users, "item": items, "squared_error": errors**2, "absolute_error": np.abs(errors)}
    )


def test_the_interval_agrees_with_scipys_percentile_bootstrap():
    values = RNG.exponential(size=300)
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=8000, rng=1
    ).confidence_interval
    low, high = bootstrap_intervals(ranking_frame(values), "ranking", resamples=8000)["ndcg@10"]
    assert (low, high) == pytest.approx(tuple(expected), abs=0.006)


def test_p_agrees_with_scipys_sign_flips():
    a = RNG.normal(0.12, 1, 150)
    expected = stats.permutation_test(
        (a,), np.mean, permutation_type="samples", n_resamples=20_000, rng=2
    ).pvalue
    difference = paired_difference(
        ranking_frame(a), ranking_frame(np.zeros(150)), "ndcg@10", permutations=20_000
    )
    assert 0.01 < expected < 0.9
    assert difference.p == pytest.approx(expected, abs=0.015)


def test_p_is_exact_in_size_for_a_handful_of_users():
    difference = paired_difference(
        ranking_frame(np.ones(5)), ranking_frame(np.zeros(5)), "hr@1", permutations=40_000
    )
    assert difference.p == pytest.approx(2 / 2**5, abs=0.005)  # only all signs equal is as extreme


def test_an_rmse_difference_agrees_with_exchanging_whole_users_by_hand():
    users = ["a", "a", "a", "b", "c", "c"]
    errors = np.array([[1.0, 2.0, 0.5, 1.0, 0.3, 0.2], [0.5, 1.0, 0.4, 1.2, 0.1, 0.1]])
    groups = np.array([0, 0, 0, 1, 2, 2])

    def gap(swapped: tuple[int, ...]) -> float:
        flip = np.array(swapped)[groups]
        first, second = np.where(flip, errors[1], errors[0]), np.where(flip, errors[0], errors[1])
        return float(np.sqrt(np.mean(first**2)) - np.sqrt(np.mean(second**2)))

    all_gaps = np.array([gap((i, j, k)) for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    difference = paired_difference(
        rating_frame(users, errors[0]), rating_frame(users, errors[1]), "rmse", permutations=40_000
    )
    assert difference.value == pytest.approx(all_gaps[0])
    assert difference.n == 3
    assert difference.p == pytest.approx(np.mean(np.abs(all_gaps) >= abs(all_gaps[0]) - 1e-12), abs=0.01)


def test_equal_models_differ_by_nothing():
    frame = ranking_frame(RNG.random(40))
    assert paired_difference(frame, frame, "hr@5") == Difference(0.0, 0.0, 0.0, 1.0, 40)


def test_the_interval_of_a_difference_covers_it_and_turns_with_it():
    a, b = ranking_frame(RNG.random(200) + 0.3), ranking_frame(RNG.random(200))
    forth, back = paired_difference(a, b, "hr@5"), paired_difference(b, a, "hr@5")
    assert 0 < forth.low < forth.value < forth.high and forth.p < 0.001
    assert (back.value, back.low, back.high) == pytest.approx((-forth.value, -forth.high, -forth.low))


def test_ratings_are_resampled_by_user():
    # 20 users with 50 equal errors each: with rows resampled the interval would be 7 times narrower
    errors = np.repeat(RNG.normal(0, 1, 20), 50)
    users = [f"u{n}" for n in range(20) for _ in range(50)]
    clustered = bootstrap_intervals(rating_frame(users, errors), "rating")["mae"]
    single = bootstrap_intervals(rating_frame([f"v{n}" for n in range(1000)], errors), "rating")["mae"]
    assert clustered[1] - clustered[0] > 5 * (single[1] - single[0])


def test_row_order_does_not_matter_and_the_seed_does():
    frame = ranking_frame(RNG.random(50))
    assert bootstrap_intervals(frame, "ranking") == bootstrap_intervals(frame.reverse(), "ranking")
    assert bootstrap_intervals(frame, "ranking", seed=1) != bootstrap_intervals(frame, "ranking", seed=2)


def test_chunks_leave_no_resample_out(monkeypatch: pytest.MonkeyPatch):
    frame, zero = ranking_frame(RNG.random(50)), ranking_frame(np.zeros(50))
    at_once = bootstrap_intervals(frame, "ranking"), paired_difference(frame, zero, "hr@1")
    monkeypatch.setattr(resampling, "CELLS", 7 * 50)
    in_chunks = bootstrap_intervals(frame, "ranking"), paired_difference(frame, zero, "hr@1")
    assert in_chunks[0]["hr@1"] == pytest.approx(at_once[0]["hr@1"], rel=0.03)
    assert in_chunks[1].p == at_once[1].p


def test_models_side_by_side_have_the_same_intervals_as_one_by_one():
    frames = {name: ranking_frame(RNG.random(40)) for name in ("one", "two", "three")}
    together = intervals_side_by_side(frames, ["hr@1", "ndcg@10"], 500, seed=4)
    for name, frame in frames.items():
        alone = bootstrap_intervals(frame, "ranking", 500, seed=4)
        assert together[name] == {metric: pytest.approx(alone[metric]) for metric in ("hr@1", "ndcg@10")}
    with pytest.raises(ValueError, match="not evaluated on the same users and items"):
        intervals_side_by_side({"one": frames["one"], "two": frames["two"].head(39)}, ["hr@1"], 500)


def test_a_ratio_of_sums_is_resampled_with_the_same_users_and_leaves_the_others_as_they_were():
    frames = {name: ranking_frame(RNG.random(40)) for name in ("one", "two")}
    alone = intervals_side_by_side(frames, ["hr@1", "ndcg@10"], 500, seed=4)
    over, under = (frames["one"].sort("user")[name].to_numpy() for name in ("hr@1", "hr@5"))
    ratios = {"one": {"mean": (over, np.ones(40)), "over itself": (2 * over, under)}}
    together = intervals_side_by_side(frames, ["hr@1", "ndcg@10"], 500, seed=4, ratios=ratios)
    for name, intervals in alone.items():
        assert {metric: together[name][metric] for metric in intervals} == intervals  # to the last digit
    assert together["one"]["mean"] == pytest.approx(alone["one"]["hr@1"])
    assert together["one"]["over itself"] == pytest.approx((2.0, 2.0))
    assert "mean" not in together["two"]


def test_frames_of_other_users_or_items_are_refused():
    frame = ranking_frame(RNG.random(5))
    for other in (
        frame.head(4),
        frame.with_columns(user=pl.col("user") + "x"),
        frame.with_columns(item=pl.lit("i")),
    ):
        with pytest.raises(ValueError, match="not evaluated on the same users and items"):
            paired_difference(frame, other, "hr@1")


def test_twenty_thousand_users_take_a_few_seconds():
    frame = ranking_frame((RNG.random(22_363) < 0.1).astype(float))
    other = ranking_frame((RNG.random(22_363) < 0.1).astype(float))
    start = time.process_time()
    bootstrap_intervals(frame, "ranking", resamples=1000)
    paired_difference(frame, other, "hr@1", resamples=1000, permutations=1000)
    assert time.process_time() - start < 8


def test_the_sums_of_a_user_do_not_depend_on_the_order_of_rows_or_on_threads_not_even_in_their_last_digit():
    users = [f"u{n % 700:03}" for n in range(9000)]
    frame = rating_frame(users, RNG.normal(0, 1, 9000))
    for part in (frame, frame.filter(pl.int_range(pl.len()) % 3 > 0)):
        sums, counts = significance.sums_per_user(part, ["rmse", "mae"])
        for seed in range(10):
            shuffled = significance.sums_per_user(
                part.sample(fraction=1, shuffle=True, seed=seed), ["rmse", "mae"]
            )
            assert np.array_equal(shuffled[0], sums) and np.array_equal(shuffled[1], counts)
