"""One evaluator for every model: answers in, one row per user (or rating) out, from which every metric
can be recomputed.

Answers are checked here, whichever model gave them. Retrieval ranks are positions in the returned list, whose
order the recommender decided; ranking reads the scores, so that equal scores share their mean rank and no
order of a file can favour a model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np
import polars as pl

from shelftalk.errors import ShelftalkError
from shelftalk.evaluation.metrics import (
    FURTHER_METRICS,
    LIST_LENGTH,
    RANK_METRICS,
    RATING_COLUMNS,
    RATING_METRICS,
)
from shelftalk.recommender import TaskName
from shelftalk.records import Ranking, Request


class InvalidAnswer(ShelftalkError):
    """An answer that the protocols of shelftalk.recommender do not allow; the message names the user."""


def evaluate_retrieval(
    rankings: Sequence[Ranking],
    requests: Sequence[Request],
    truths: Sequence[str],
    catalogue: Collection[str],
    k: int = LIST_LENGTH,
    full: bool = True,
) -> pl.DataFrame:
    """One row per request: user, item (the truth), rank (Float64, null where not in the list),
    history_length, the metrics.

    `k` is the list length that the recommender was given, at least 20. Raises InvalidAnswer unless each
    ranking holds min(k, what is left) distinct catalogue items outside its request's history, with scores
    that never increase; a list that is not `full`, as another system may give, may hold fewer.
    """
    if k < LIST_LENGTH:
        raise ValueError(f"the retrieval metrics need lists of {LIST_LENGTH}, not of {k}")
    _check_aligned(rankings, requests, truths)
    known_items = frozenset(catalogue)
    for ranking, request in zip(rankings, requests, strict=True):
        _check_retrieval(ranking, request, known_items, k, full)
    ranks = [_position(ranking.items, truth) for ranking, truth in zip(rankings, truths, strict=True)]
    return _rank_frame(np.array(ranks, np.float64), requests, truths, "retrieval")


def evaluate_ranking(
    rankings: Sequence[Ranking], requests: Sequence[Request], truths: Sequence[str]
) -> pl.DataFrame:
    """One row per request, as `evaluate_retrieval`; the rank is the mean over all orders of equal scores.

    Raises InvalidAnswer unless each ranking holds exactly its request's candidates, with scores that never
    increase, and ValueError where a truth is not among the candidates.
    """
    _check_aligned(rankings, requests, truths)
    for ranking, request, truth in zip(rankings, requests, truths, strict=True):
        if truth not in request.candidates:
            raise ValueError(
                f'the candidates of user "{request.user}" do not hold the relevant item "{truth}"'
            )
        if sorted(ranking.items) != sorted(request.candidates):
            raise InvalidAnswer(
                f'the ranking of user "{request.user}" is not made of its candidates, each once; fix rank().'
            )
        _check_scores(ranking)
    ranks = [mean_rank(ranking, truth) for ranking, truth in zip(rankings, truths, strict=True)]
    return _rank_frame(np.array(ranks, np.float64), requests, truths, "ranking")


def evaluate_rating(
    estimates: Sequence[float], requests: Sequence[Request], truths: Sequence[float]
) -> pl.DataFrame:
    """One row per request: user, item, truth, estimate, history_length, squared_error, absolute_error.

    Raises InvalidAnswer for an estimate that is not a finite number.
    """
    if not len(estimates) == len(requests) == len(truths):
        raise InvalidAnswer(
            f"{len(estimates)} estimates for {len(requests)} requests and {len(truths)} ratings; give one "
            "each."
        )
    for estimate, request in zip(estimates, requests, strict=True):
        if not np.isfinite(estimate):
            raise InvalidAnswer(
                f'the estimate for user "{request.user}" and item "{request.item}" is {estimate}; fix rate().'
            )
    error = pl.col("estimate") - pl.col("truth")
    return pl.DataFrame(
        {
            "user": [request.user for request in requests],
            "item": [request.item for request in requests],
            "truth": pl.Series(truths, dtype=pl.Float64),
            "estimate": pl.Series(estimates, dtype=pl.Float64),
            "history_length": _history_lengths(requests),
        },
        schema_overrides={"user": pl.String, "item": pl.String},
    ).with_columns(squared_error=error**2, absolute_error=error.abs())


def summarise(frame: pl.DataFrame, task: TaskName) -> dict[str, float]:
    """Every metric of the task, recomputed from the ranks or errors of a saved frame. Raises ValueError for
    an empty one."""
    if frame.is_empty():
        raise ValueError(f"no rows to compute the {task} metrics from")
    if task == "rating":
        return {
            name: metric(frame[RATING_COLUMNS[name]].to_numpy()) for name, metric in RATING_METRICS.items()
        }
    ranks = frame["rank"].fill_null(np.inf).to_numpy()
    return {name: float(metric(ranks).mean()) for name, metric in RANK_METRICS[task].items()}


def with_further_metrics(frame: pl.DataFrame, task: TaskName) -> pl.DataFrame:
    """The saved frame with a column for each of FURTHER_METRICS, recomputed from its ranks."""
    if task == "rating":
        return frame
    ranks = frame["rank"].fill_null(np.inf).to_numpy()
    return frame.with_columns(
        **{name: pl.Series(metric(ranks)) for name, metric in FURTHER_METRICS[task].items()}
    )


def mean_rank(ranking: Ranking, item: str) -> float:
    """1 + the items with a higher score + half of the other items with an equal one."""
    score = ranking.scores[ranking.items.index(item)]
    higher = sum(other > score for other in ranking.scores)
    equal = sum(other == score for other in ranking.scores)
    return 1.0 + higher + (equal - 1) / 2


def _rank_frame(
    ranks: np.ndarray, requests: Sequence[Request], truths: Sequence[str], task: TaskName
) -> pl.DataFrame:
    """`ranks` [n], inf where the truth is not in the list."""
    return pl.DataFrame(
        {
            "user": [request.user for request in requests],
            "item": list(truths),
            "rank": pl.Series(ranks).replace(np.inf, None),
            "history_length": _history_lengths(requests),
            **{name: metric(ranks) for name, metric in RANK_METRICS[task].items()},
        },
        schema_overrides={"user": pl.String, "item": pl.String},
    )


def _position(items: Sequence[str], truth: str) -> float:
    return items.index(truth) + 1.0 if truth in items else np.inf


def _history_lengths(requests: Sequence[Request]) -> pl.Series:
    return pl.Series([len(request.history) for request in requests], dtype=pl.Int64)


def _check_aligned(rankings: Sequence[Ranking], requests: Sequence[Request], truths: Sequence[str]) -> None:
    if not len(rankings) == len(requests) == len(truths):
        raise InvalidAnswer(
            f"{len(rankings)} rankings for {len(requests)} requests and {len(truths)} truths; give one each."
        )
    for ranking, request in zip(rankings, requests, strict=True):
        if ranking.user != request.user:
            raise InvalidAnswer(
                f'the request of user "{request.user}" got an answer for "{ranking.user}"; keep the order of '
                "the requests."
            )


def _check_retrieval(
    ranking: Ranking, request: Request, known_items: frozenset[str], k: int, full: bool
) -> None:
    subject = f'the list of user "{request.user}"'
    items = set(ranking.items)
    if len(items) < len(ranking.items):
        raise InvalidAnswer(f"{subject} names an item twice; fix its recommend().")
    if unknown := sorted(items - known_items):
        raise InvalidAnswer(
            f'{subject} holds "{unknown[0]}", which is not in the catalogue; fix its recommend().'
        )
    if seen := sorted(items.intersection(request.history)):
        raise InvalidAnswer(f'{subject} holds "{seen[0]}", which is in its history; fix its recommend().')
    expected = min(k, len(known_items) - len(known_items.intersection(request.history)))
    if len(items) > expected or (full and len(items) < expected):
        raise InvalidAnswer(f"{subject} holds {len(items)} items and not {expected}; fix its recommend().")
    _check_scores(ranking)


def _check_scores(ranking: Ranking) -> None:
    scores = ranking.scores
    if any(score != score for score in scores):
        raise InvalidAnswer(f'a score of user "{ranking.user}" is not a number; fix the recommender.')
    if not all(better >= worse for better, worse in pairwise(scores)):
        raise InvalidAnswer(
            f'the scores of user "{ranking.user}" increase along the list; sort by score, best first.'
        )
