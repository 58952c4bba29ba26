"""Metrics: values worked out by hand, and what holds for any rank."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelftalk.evaluation.metrics import (
    FURTHER_METRICS,
    RANK_METRICS,
    RANKING_METRICS,
    RATING_METRICS,
    RETRIEVAL_METRICS,
    further_names,
    mae,
    metric_names,
    ndcg,
    precision,
    recall,
    reciprocal_rank,
    rmse,
)

RANKS = np.array([1, 2, 3, 5, 5.5, 10, 11, 20, 21, np.inf])


def test_recall_is_one_up_to_k():
    assert recall(RANKS, 5).tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert recall(RANKS, 20).tolist() == [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]


def test_ndcg_is_the_logarithmic_discount_up_to_k():
    # 1 / log2(2, 3, 4, 6, 6.5, 11)
    expected = [
        1,
        0.6309298,
        0.5,
        0.3868528,
        0.3703101,
        0.2890648,
        0,
        0,
        0,
        0,
    ]
    assert ndcg(RANKS, 10).tolist() == pytest.approx(expected, abs=1e-6)


def test_reciprocal_rank_is_zero_beyond_k():
    assert reciprocal_rank(RANKS, 20).tolist() == pytest.approx(
        [1, 1 / 2, 1 / 3, 1 / 5, 1 / 5.5, 1 / 10, 1 / 11, 1 / 20, 0, 0]
    )


def test_precision_is_one_item_among_k():
    assert precision(RANKS, 5).tolist() == pytest.approx([0.2, 0.2, 0.2, 0.2, 0, 0, 0, 0, 0, 0])


def test_with_one_relevant_item_average_precision_is_the_reciprocal_rank():
    """Average precision: the mean, over the relevant items, of the precision at their ranks."""
    for rank, k in ((1, 5), (4, 5), (6, 5), (10, 10), (11, 10)):
        relevant = np.arange(1, 21) == rank
        at_ranks = [relevant[:n].mean() for n in range(1, k + 1) if relevant[n - 1]]
        by_definition = sum(at_ranks) / 1
        assert FURTHER_METRICS["retrieval"][f"map@{k}"](np.array([float(rank)]))[0] == by_definition


def test_rating_metrics_by_hand():
    assert rmse(np.array([1.0, 0.0, 4.0, 4.0])) == pytest.approx(1.5)  # sqrt(9 / 4)
    assert mae(np.array([1.0, 0.0, 2.0, 2.0])) == pytest.approx(1.25)


def test_metrics_bear_the_names_that_files_and_people_rely_on():
    assert list(RETRIEVAL_METRICS) == [
        *(f"{m}@{k}" for m in ("recall", "ndcg") for k in (1, 5, 10, 20)),
        "mrr@20",
    ]
    assert list(RANKING_METRICS) == [f"{m}@{k}" for m in ("hr", "ndcg") for k in (1, 5, 10)]
    assert list(RATING_METRICS) == ["rmse", "mae"]
    assert further_names("retrieval") == [
        *(f"precision@{k}" for k in (5, 10, 20)),
        *(f"mrr@{k}" for k in (5, 10)),
        *(f"map@{k}" for k in (5, 10, 20)),
    ]
    assert further_names("ranking") == [f"{m}@{k}" for m in ("precision", "mrr", "map") for k in (5, 10)]
    assert further_names("rating") == []
    assert [metric_names(task) for task in ("retrieval", "ranking", "rating")] == [
        list(table) for table in (RETRIEVAL_METRICS, RANKING_METRICS, RATING_METRICS)
    ]


@given(st.lists(st.integers(2, 200).map(lambda halves: halves / 2), min_size=1, max_size=30))
def test_a_better_rank_is_never_worse_and_ndcg_lies_below_recall(ranks: list[float]):
    ordered = np.array(sorted(ranks))
    for metrics in (*RANK_METRICS.values(), *FURTHER_METRICS.values()):
        for metric in metrics.values():
            values = metric(ordered)
            assert ((values >= 0) & (values <= 1)).all()
            assert all(better >= worse for better, worse in pairwise(values))
    for k in (1, 5, 10, 20):
        assert (ndcg(ordered, k) <= recall(ordered, k)).all()
        assert (reciprocal_rank(ordered, k) <= ndcg(ordered, k) + 1e-12).all()
