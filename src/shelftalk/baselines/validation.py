"""What baselines choose their settings by: NDCG@10 over all items on the validation part.

Legend: R requests, I items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shelftalk import seeds
from shelftalk.baselines.scored_catalogue import Score, ScoredCatalogue
from shelftalk.data.splitting import Split
from shelftalk.records import Request

VALIDATION_USERS = 5000
"""Validation requests at most, by default."""


def validation_sample(split: Split, most: int, seed: int, model: str) -> tuple[list[Request], list[str]]:
    """At most `most` validation requests and their truths, drawn by seed for the model of this name."""
    requests, truths = split.retrieval_requests("validation")
    order = seeds.generator(seed, f"{model} validation users").permutation(len(requests))[:most].tolist()
    return [requests[row] for row in order], [truths[row] for row in order]


def mean_ndcg(
    catalogue: ScoredCatalogue, score: Score, requests: Sequence[Request], truths: Sequence[str]
) -> float:
    """NDCG@10 of the truths among all items but those of each history, equal scores at their mean rank."""
    total, start = 0.0, 0
    for batch in catalogue.batches(requests):
        targets = catalogue.rows(truths[start : start + len(batch)], "")
        seen = [catalogue.rows(request.history, request.user) for request in batch]
        total += ndcg_sum(np.array(score(batch)), seen, targets)
        start += len(batch)
    return total / len(requests)


def ndcg_sum(scores: np.ndarray, seen: list[list[int]], targets: list[int]) -> float:
    """Sum over requests of the NDCG@10 of the target items, seen items excluded, equal scores at their mean
    rank. `scores` [R, I] is changed."""
    rows = np.arange(len(scores))
    seen_rows = np.repeat(rows, [len(columns) for columns in seen])
    scores[seen_rows, np.concatenate(seen).astype(np.int64)] = -np.inf
    truth = scores[rows, targets][:, None]
    rank = 1 + np.count_nonzero(scores > truth, axis=1) + (np.count_nonzero(scores == truth, axis=1) - 1) / 2
    return float(np.where(rank <= 10, 1 / np.log2(rank + 1), 0.0).sum())
