"""What every search answers, checked where it is made. Legend: R requests, K places, N items of all requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shelftalk.decoding.hiding import Hidden
from shelftalk.errors import IllegalMove


@dataclass(frozen=True, eq=False)
class Found:
    """`items` [R, K] int64, best first, -1 behind the last; `scores` [R, K] float64 nats, -inf behind the last."""

    items: np.ndarray
    scores: np.ndarray


def answer(hidden: Hidden, request: np.ndarray, items: np.ndarray, scores: np.ndarray, number: int) -> Found:
    """The best `number` items of each request; equal scores in the order of the item numbers.

    `request`, `items`, `scores` [N]. Checked here, in the code path and not only in tests: raises IllegalMove where an item is hidden
    from its request, comes twice, or has no finite score.
    """
    order = np.lexsort((items, -scores, request))
    request, items, scores = request[order], items[order], scores[order]
    place = np.arange(len(request)) - np.searchsorted(request, request)
    keys = np.unique(request * (items.max(initial=0) + 1) + items)
    if len(keys) < len(items) or (items < 0).any() or hidden.of(request, items).any() or not np.isfinite(scores).all():
        raise IllegalMove("a search returned an item twice, a hidden one, or one without a score; please report this as a defect.")
    kept = place < number
    found = Found(np.full((hidden.requests, number), -1), np.full((hidden.requests, number), -np.inf))
    found.items[request[kept], place[kept]] = items[kept]
    found.scores[request[kept], place[kept]] = scores[kept]
    return found
