"""Histories as rows of a sparse matrix, the latest items weighing most.

Legend: R requests, I items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from shelftalk.baselines.scored_catalogue import ScoredCatalogue
from shelftalk.records import Request


def history_weights(
    requests: Sequence[Request], catalogue: ScoredCatalogue, decay: float, max_history: int | None = None
) -> csr_matrix:
    """[R, I] float32: decay^age of the last `max_history` items of each history (all where it is None), age 0
    the latest. Raises UnknownItem for an id outside the catalogue."""
    first = None if max_history is None else -max_history
    # latest first
    rows = [catalogue.rows(request.history[first:], request.user)[::-1] for request in requests]
    lengths = [len(row) for row in rows]
    columns = np.array([column for row in rows for column in row], np.int64)
    powers = decay ** np.arange(max(lengths, default=0))
    values = np.concatenate([powers[:length] for length in lengths]) if lengths else powers
    request_rows = np.repeat(np.arange(len(rows)), lengths)
    shape = (len(rows), len(catalogue.item_ids))
    return csr_matrix((values.astype(np.float32), (request_rows, columns)), shape)
