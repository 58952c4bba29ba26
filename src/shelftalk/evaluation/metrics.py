"""Metrics as functions of the rank of the one relevant item (retrieval, ranking) or of errors (rating).

The best rank is 1; inf stands for "not in the list". Where equal scores make a rank ambiguous, the rank is
the mean over all orders of the ties and may end in .5. It is used as it is: a hit at k needs rank <= k, and
the discount of NDCG takes the fraction. So ten equal scores, mean rank 5.5, are no hit at 5 and one at 10:
a model without a preference gets neither the best nor the worst case.

Legend: n users (or ratings).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from shelftalk.recommender import TaskName

LIST_LENGTH = 20
"""Items that a retrieval list must hold for the metrics below."""


def recall(ranks: np.ndarray, k: int) -> np.ndarray:
    """Recall@k = HR@k = 1 if rank <= k else 0, [n] -> [n]: with one relevant item both are the same."""
    return (ranks <= k).astype(np.float64)


def ndcg(ranks: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k = 1 / log2(rank + 1) if rank <= k else 0; the ideal gain is 1. [n] -> [n]

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4), 2002.
    """
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def reciprocal_rank(ranks: np.ndarray, k: int) -> np.ndarray:
    """MRR@k = 1 / rank if rank <= k else 0. [n] -> [n]"""
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


def precision(ranks: np.ndarray, k: int) -> np.ndarray:
    """Precision@k = Recall@k / k: the one relevant item among k. [n] -> [n]"""
    return recall(ranks, k) / k


def rmse(squared_errors: np.ndarray) -> float:
    """RMSE = sqrt(mean (estimate - truth)^2), from [n] squared errors, on the rating scale."""
    return float(np.sqrt(np.mean(squared_errors)))


def mae(absolute_errors: np.ndarray) -> float:
    """MAE = mean |estimate - truth|, from [n] absolute errors, on the rating scale."""
    return float(np.mean(absolute_errors))


RankMetric = Callable[[np.ndarray], np.ndarray]
RETRIEVAL_METRICS: dict[str, RankMetric] = {
    **{f"recall@{k}": partial(recall, k=k) for k in (1, 5, 10, 20)},
    **{f"ndcg@{k}": partial(ndcg, k=k) for k in (1, 5, 10, 20)},
    "mrr@20": partial(reciprocal_rank, k=20),
}
RANKING_METRICS: dict[str, RankMetric] = {
    **{f"hr@{k}": partial(recall, k=k) for k in (1, 5, 10)},
    **{f"ndcg@{k}": partial(ndcg, k=k) for k in (1, 5, 10)},
}
RANK_METRICS: dict[str, dict[str, RankMetric]] = {"retrieval": RETRIEVAL_METRICS, "ranking": RANKING_METRICS}
FURTHER_METRICS: dict[str, dict[str, RankMetric]] = {
    "retrieval": {
        **{f"precision@{k}": partial(precision, k=k) for k in (5, 10, 20)},
        **{f"mrr@{k}": partial(reciprocal_rank, k=k) for k in (5, 10)},
        **{f"map@{k}": partial(reciprocal_rank, k=k) for k in (5, 10, 20)},
    },
    "ranking": {
        **{f"precision@{k}": partial(precision, k=k) for k in (5, 10)},
        **{f"mrr@{k}": partial(reciprocal_rank, k=k) for k in (5, 10)},
        **{f"map@{k}": partial(reciprocal_rank, k=k) for k in (5, 10)},
    },
}
"""What others report under these names, computed from the same ranks and written into metrics.json beside the
metrics above. Every request has exactly one relevant item, also where a user has several requests; so
Precision@k is Recall@k / k, average precision is the reciprocal rank and MAP@k is MRR@k, and at k = 1 all of
them are Recall@1."""
RATING_METRICS: dict[str, Callable[[np.ndarray], float]] = {"rmse": rmse, "mae": mae}
RATING_COLUMNS = {"rmse": "squared_error", "mae": "absolute_error"}
"""The column of the per-rating table that each rating metric reads."""


def metric_names(task: TaskName) -> list[str]:
    """The metrics of a task, in the order of its tables."""
    return list(RATING_METRICS if task == "rating" else RANK_METRICS[task])


def further_names(task: TaskName) -> list[str]:
    """The metrics of a task that metrics.json has beside those of the tables."""
    return list(FURTHER_METRICS.get(task, ()))
