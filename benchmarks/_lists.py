"""How good lists of items are, by the project's own metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shelftalk.evaluation.metrics import ndcg, recall


def quality(lists: Sequence[Sequence[str]], truths: Sequence[str], k: int) -> dict[str, float]:
    """Recall@k and NDCG@k of lists of ids, best first, against the one relevant id of each."""
    ranks = np.array(
        [
            found.index(truth) + 1 if truth in found else np.inf
            for found, truth in zip(lists, truths, strict=True)
        ]
    )
    return {f"recall@{k}": float(recall(ranks, k).mean()), f"ndcg@{k}": float(ndcg(ranks, k).mean())}
