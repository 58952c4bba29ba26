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

from shelftalk.declarations import Metric
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


METRICS = {
    "recall": Metric(recall, {"retrieval": (1, 5, 10, 20)}),
    "hr": Metric(recall, {"ranking": (1, 5, 10)}),
    "ndcg": Metric(ndcg, {"retrieval": (1, 5, 10, 20), "ranking": (1, 5, 10)}),
    "precision": Metric(precision, further={"retrieval": (5, 10, 20), "ranking": (5, 10)}),
    "mrr": Metric(reciprocal_rank, {"retrieval": (20,)}, further={"retrieval": (5, 10), "ranking": (5, 10)}),
    "map": Metric(reciprocal_rank, further={"retrieval": (5, 10, 20), "ranking": (5, 10)}),
    "rmse": Metric(rmse, {"rating": ()}, column="squared_error", lower_is_better=True),
    "mae": Metric(mae, {"rating": ()}, column="absolute_error", lower_is_better=True),
}
"""Every metric of accuracy, in the order of the tables. Every request has exactly one relevant item, also
where a user has several requests; so Precision@k is Recall@k / k, average precision is the reciprocal rank
and MAP@k is MRR@k, and at k = 1 all of them are Recall@1. What lists are like beside accuracy is in
beyond_accuracy.py."""

RankMetric = Callable[[np.ndarray], np.ndarray]


def _of_ranks(task: TaskName, further: bool = False) -> dict[str, RankMetric]:
    """ "NAME@k" -> the function of ranks."""
    return {
        f"{name}@{k}": partial(metric.load(), k=k)
        for name, metric in METRICS.items()
        for k in (metric.further if further else metric.cutoffs).get(task, ())
    }


RETRIEVAL_METRICS, RANKING_METRICS = _of_ranks("retrieval"), _of_ranks("ranking")
RANK_METRICS: dict[str, dict[str, RankMetric]] = {"retrieval": RETRIEVAL_METRICS, "ranking": RANKING_METRICS}
FURTHER_METRICS = {task: _of_ranks(task, further=True) for task in ("retrieval", "ranking")}
"""Written into metrics.json beside the metrics of the tables."""
RATING_METRICS: dict[str, Callable[[np.ndarray], float]] = {
    name: metric.load() for name, metric in METRICS.items() if "rating" in metric.cutoffs
}
RATING_COLUMNS = {name: METRICS[name].column for name in RATING_METRICS}
"""The column of the per-rating table that each rating metric reads."""


def lower_is_better(name: str) -> bool:
    """Whether a metric, such as "ndcg@10" or "rmse", is an error."""
    metric = METRICS.get(name.partition("@")[0])
    return metric is not None and metric.lower_is_better


def metric_names(task: TaskName) -> list[str]:
    """The metrics of a task, in the order of its tables."""
    return list(RATING_METRICS if task == "rating" else RANK_METRICS[task])


def further_names(task: TaskName) -> list[str]:
    """The metrics of a task that metrics.json has beside those of the tables."""
    return list(FURTHER_METRICS.get(task, ()))
