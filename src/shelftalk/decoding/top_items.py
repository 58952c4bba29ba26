"""The result of every search, checked where it is made. Legend: R requests, N items of all requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shelftalk.decoding.exclusions import Exclusions
from shelftalk.errors import IllegalMove
from shelftalk.ragged import rank_within_row


@dataclass(frozen=True, eq=False)
class TopItems:
    """`items` [R, k] int64, best first, -1 after the last; `scores` [R, k] float64 nats, -inf
    after the last."""

    items: np.ndarray
    scores: np.ndarray


def top_items(
    exclusions: Exclusions, request: np.ndarray, items: np.ndarray, scores: np.ndarray, k: int
) -> TopItems:
    """The k best items of each request, of `items` [N] with `scores` [N] for `request` [N]; equal scores by
    item number. Example, k = 2:

        request  0     0     1     0              items   [[7, 5], [3, -1]]
        items    5     9     3     7        ->    scores  [[-1.0, -2.0], [-4.0, -inf]]
        scores  -2.0  -3.0  -4.0  -1.0

    Checked here, on the way of every result and not only in tests: raises IllegalMove where an item is
    excluded for its request, comes twice, or has no finite score.
    """
    distinct = np.unique(request * (items.max(initial=0) + 1) + items)
    valid = len(distinct) == len(items) and (items >= 0).all() and np.isfinite(scores).all()
    if not valid or exclusions.excludes(request, items).any():
        raise IllegalMove(
            "a search returned an item twice, an excluded one, or one without a score; please report this as "
            "a defect."
        )
    best = top_k_per_row(request, scores, items, k)
    row, rank = request[best], rank_within_row(request[best])
    top = TopItems(np.full((exclusions.requests, k), -1), np.full((exclusions.requests, k), -np.inf))
    top.items[row, rank], top.scores[row, rank] = items[best], scores[best]
    return top


def top_k_per_row(row: np.ndarray, score: np.ndarray, tie_break: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k best of each row, rows ascending, best first; equal scores by `tie_break`, the lower
    first. `row`, `score` and `tie_break` [N] in any order: row [1, 0, 1, 1], score [-3, -9, -1, -2], k = 2 ->
    [1, 2, 3]."""
    order = np.lexsort((tie_break, -score, row))
    return order[rank_within_row(row[order]) < k]


def kth_score_per_row(row: np.ndarray, score: np.ndarray, k: int, rows: int) -> np.ndarray:
    """[rows] the k-th best score of each row, which a better one must beat; -inf where a row has fewer. `row`
    and `score` [N] in the order of `top_k_per_row`."""
    kth = np.flatnonzero(rank_within_row(row) == k - 1)
    scores = np.full(rows, -np.inf)
    scores[row[kth]] = score[kth]
    return scores
