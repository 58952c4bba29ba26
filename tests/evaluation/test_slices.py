"""Slices: each row in one slice of each kind, never-seen items apart, and edges in the label."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from shelftalk.evaluation.evaluator import evaluate_ranking, evaluate_rating, summarise
from shelftalk.evaluation.metrics import metric_names
from shelftalk.evaluation.significance import bootstrap_intervals
from shelftalk.evaluation.slices import popularity_starts, slice_metrics, slices_of_models
from shelftalk.records import Ranking, Request

POPULARITY = {"z": 0, "a": 1, "b": 1, "c": 4, "d": 5, "e": 9, "f": 30}


def frame(truths: str, lengths: list[int]) -> pl.DataFrame:
    candidates = tuple(POPULARITY)
    requests = [Request(f"u{n}", ("h",) * length, candidates=candidates) for n, length in enumerate(lengths)]
    rankings = [Ranking(request.user, candidates, tuple(range(7, 0, -1))) for request in requests]
    return evaluate_ranking(rankings, requests, list(truths))


def labels(slices: pl.DataFrame, kind: str) -> dict[str, int]:
    part = slices.filter(pl.col("slice_kind") == kind)
    return dict(zip(part["slice"].to_list(), part["users"].to_list(), strict=True))


def test_items_are_cut_into_never_seen_and_thirds_of_the_seen():
    slices = slice_metrics(frame("zzabcdef", [3] * 8), POPULARITY, "ranking")
    assert slices.columns == ["slice_kind", "slice", "users", *metric_names("ranking")]
    assert labels(slices, "item popularity") == {
        "never seen": 2,
        "1-3 events": 2,
        "4-8 events": 2,
        "9 or more events": 2,
    }


def test_histories_are_cut_at_fixed_lengths():
    slices = slice_metrics(frame("aaaaaa", [0, 4, 5, 19, 100, 300]), POPULARITY, "ranking")
    assert labels(slices, "history length") == {
        "0-4 items": 2,
        "5-9 items": 1,
        "10-19 items": 1,
        "100 or more items": 2,
    }


def test_each_slice_has_the_metrics_of_its_rows_and_they_add_up():
    rows = frame("zabcdefz", [1, 6, 11, 21, 51, 101, 2, 3])
    slices = slice_metrics(rows, POPULARITY, "ranking")
    never = slices.filter(pl.col("slice") == "never seen").row(0, named=True)
    assert {name: never[name] for name in metric_names("ranking")} == summarise(
        rows.filter(pl.col("item") == "z"), "ranking"
    )
    for kind in ("item popularity", "history length"):
        part = slices.filter(pl.col("slice_kind") == kind)
        assert np.average(part["ndcg@5"], weights=part["users"]) == pytest.approx(
            summarise(rows, "ranking")["ndcg@5"]
        )


def test_equal_counts_stay_in_one_slice():
    assert popularity_starts({"a": 1, "b": 1, "c": 1, "d": 1, "e": 2}) == (0, 1)
    assert popularity_starts({"a": 2, "b": 2, "c": 2}) == (0, 1, 2)
    assert popularity_starts({"a": 0}) == (0, 1)


def test_one_event_is_singular():
    slices = slice_metrics(frame("a", [3]), {**dict.fromkeys("zabcdef", 2), "a": 1}, "ranking")
    assert labels(slices, "item popularity") == {"1 event": 1}


def test_a_slice_of_one_count_is_plural_where_the_count_is():
    slices = slice_metrics(frame("ab", [3, 3]), {"a": 2, "b": 3, "c": 1, "d": 1, "e": 2, "f": 3}, "ranking")
    assert labels(slices, "item popularity") == {"2 events": 1, "3 or more events": 1}


def test_rating_slices_count_users_not_ratings():
    requests = [Request("u", (), item=item) for item in "abf"]
    slices = slice_metrics(evaluate_rating([3.0, 4.0, 5.0], requests, [3.0, 3.0, 3.0]), POPULARITY, "rating")
    assert labels(slices, "item popularity") == {"1-3 events": 1, "9 or more events": 1}
    assert slices["rmse"].to_list() == pytest.approx([np.sqrt(0.5), 2.0, np.sqrt(5 / 3)])


def test_an_item_without_a_count_is_refused():
    with pytest.raises(ValueError, match='"a" was evaluated'):
        slice_metrics(frame("a", [3]), {"z": 0}, "ranking")


def test_slices_of_several_models_are_those_of_each_with_intervals():
    truths, lengths = "aabbccddeeff" * 3, [3, 12] * 18
    swapped = frame(truths[::-1], lengths).with_columns(item=pl.Series(list(truths)))
    both = {"one": frame(truths, lengths), "two": swapped}
    table = slices_of_models(both, POPULARITY, "ranking", ["ndcg@10", "hr@1"], 200, seed=5)
    for model, of_model in both.items():
        plain = slice_metrics(of_model, POPULARITY, "ranking")
        assert table.filter(pl.col("model") == model).select(plain.columns).equals(plain)
    row = table.filter((pl.col("model") == "two") & (pl.col("slice") == "10-19 items")).row(0, named=True)
    long = swapped.filter(pl.col("history_length") == 12)
    assert (row["ndcg@10.low"], row["ndcg@10.high"]) == pytest.approx(
        bootstrap_intervals(long, "ranking", 200, seed=5)["ndcg@10"]
    )
    assert row["ndcg@10.low"] < row["ndcg@10"] < row["ndcg@10.high"]


def test_a_slice_without_any_difference_between_users_has_no_interval():
    table = slices_of_models({"one": frame("ffff", [3] * 4)}, POPULARITY, "ranking", ["hr@1"], 100, seed=0)
    assert table["hr@1"].to_list() == [0.0, 0.0]
    assert table["hr@1.low"].to_list() == table["hr@1.high"].to_list() == [None, None]
