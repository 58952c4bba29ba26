"""Means by formulas of their own: worked by hand, and equal to the evaluator's to the last digits."""

from __future__ import annotations

from math import log2, sqrt

import numpy as np
import polars as pl
import pytest

from shelftalk.certificate.figures import (
    Deviation,
    close,
    deviations_of_means,
    deviations_of_tables,
    deviations_of_values,
    gain,
    means,
    within,
)
from shelftalk.evaluation.evaluator import summarise
from shelftalk.evaluation.metrics import RANK_METRICS, metric_names

RANKS = [1.0, 2.0, 5.5, 10.0, 21.0, None]
TABLE = pl.DataFrame({"model": "m", "user": list("abcdef"), "rank": RANKS})


def test_means_worked_by_hand() -> None:
    computed = means(TABLE, "retrieval", ["recall@1", "recall@5", "ndcg@10", "mrr@20", "coverage@10"])["m"]
    assert computed == pytest.approx(
        {
            "recall@1": 1 / 6,
            "recall@5": 2 / 6,
            "ndcg@10": (1 + 1 / log2(3) + 1 / log2(6.5) + 1 / log2(11)) / 6,
            "mrr@20": (1 + 1 / 2 + 1 / 5.5 + 1 / 10) / 6,
        }
    )


def test_errors_worked_by_hand() -> None:
    table = pl.DataFrame({"model": ["m"] * 3, "truth": [3.0, 4.0, 5.0], "estimate": [3.0, 2.0, 4.0]})
    assert means(table, "rating", ["rmse", "mae"])["m"] == {"rmse": sqrt(5 / 3), "mae": 1.0}


def test_every_metric_that_there_is_is_computed_as_the_evaluator_does() -> None:
    rng = np.random.default_rng(0)
    ranks = [None if rank > 25 else rank for rank in (rng.integers(2, 60, 500) / 2).tolist()]
    for task, names in RANK_METRICS.items():
        table = pl.DataFrame({"model": ["m"] * 500, "rank": ranks})
        computed = means(table, task, [name for name in names if gain(name) is not None])["m"]
        expected = summarise(table.with_columns(pl.col("rank").cast(pl.Float64)), task)
        assert computed == pytest.approx({name: expected[name] for name in computed}, abs=1e-14)
        assert {"recall@10", "hr@10"} & computed.keys() and "ndcg@10" in computed
    assert set(means(pl.DataFrame({"model": ["m"], "truth": [1.0], "estimate": [2.0]}), "rating",
                     metric_names("rating"))["m"]) == {"rmse", "mae"}  # fmt: skip


def test_a_metric_that_does_not_follow_is_named_with_both_values() -> None:
    printed = {"retrieval": {"m": {"recall@1": 0.5, "recall@5": 2 / 6}, "m.ci": {}}}
    number, wrong, largest = deviations_of_means(printed, {"retrieval": TABLE})
    assert number == 2 and largest == pytest.approx(1 / 3)
    assert [str(one) for one in wrong] == ["retrieval, m: recall@1 is 0.5, and 0.166667 follows"]


def test_a_model_without_rows_is_named() -> None:
    _, wrong, _ = deviations_of_means({"retrieval": {"m": {}, "n": {}}}, {"retrieval": TABLE})
    assert len(wrong) == 1 and wrong[0].computed == ["n"]


def test_tables_are_compared_cell_by_cell() -> None:
    one = pl.DataFrame({"model": ["a", "b"], "value": [0.1, None], "n": [1, 2]})
    assert deviations_of_tables(one, one.clone(), "t") == []
    assert deviations_of_tables(one, one.with_columns(value=pl.Series([0.1 + 1e-12, None])), "t") == []
    cases = {
        "t (b): n": one.with_columns(n=pl.Series([1, 3])),
        "t (a): value": one.with_columns(value=pl.Series([0.1001, None])),
        "t (b): value": one.with_columns(value=pl.Series([0.1, 0.2])),
        "t (): model": one.with_columns(model=pl.Series(["a", "c"])),
        "t: rows and columns": one[:1],
    }
    for where, other in cases.items():
        (deviation,) = deviations_of_tables(other, one, "t")
        assert deviation.where == where


def test_values_are_compared_leaf_by_leaf() -> None:
    computed = {"a": [1.0, {"b": "x"}], "c": None}
    assert list(deviations_of_values(computed, computed, "v")) == []
    found = list(deviations_of_values({"a": [1.0, {"b": "y"}], "d": 1}, computed, "v"))
    assert found == [Deviation("v, a[1], b", "y", "x"), Deviation("v, d", 1, None)]


def test_close_is_for_numbers_alone() -> None:
    assert close(1.0, 1.0 + 1e-12) and not close(1.0, 1.0 + 1e-6) and close(None, None)
    assert not close(None, 0.0) and not close("1", 1) and close(True, True) and not close(float("nan"), 1.0)


def test_what_another_value_has_no_place_for_is_left_out() -> None:
    value = {"a": [{"x": 1, "new": 2}], "b": 3, "new": 4}
    assert within(value, {"a": [{"x": 0}], "b": 0}) == {"a": [{"x": 1}], "b": 3}
    assert within(value["a"], []) == value["a"]
