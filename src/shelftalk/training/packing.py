"""Short samples side by side in one row, each trained as if it stood alone (decoder-only).

With length buckets (batching.py) a tenth to a fifth of a batch is padding; with full rows a few hundredths,
at the price of an attention mask per row. Example, in rows of 10 tokens:

    lengths [7, 3, 5, 4]    rows [[0, 1], [2, 3]]: sample 1 goes where it leaves the least space

Legend: N samples.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from shelftalk.models.text_encoder import Encoded, joined_soft_targets

NO_SHARED_ROWS = "an encoder-decoder cannot have several samples in one row; set training.row_tokens = 0."


def packed_rows(lengths: Sequence[int], row_tokens: int) -> list[list[int]]:
    """Positions of the samples of `lengths` [N] in rows of at most `row_tokens` tokens; a longer sample is a
    row of its own.

    Best fit, the longest first: each sample goes where it leaves the least space (Johnson et al., SIAM J.
    Comput. 3, 1974).
    """
    rows: list[list[int]] = []
    space: list[tuple[int, int]] = []  # (tokens left, row), ascending, of the rows that are not full
    for position in sorted(range(len(lengths)), key=lambda position: -lengths[position]):
        tightest = bisect_left(space, (lengths[position], 0))
        left, row = space.pop(tightest) if tightest < len(space) else (row_tokens, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(position)
        if left > lengths[position]:
            insort(space, (left - lengths[position], row))
    return rows


def side_by_side(samples: Sequence[Encoded]) -> Encoded:
    """One row of several samples; the first token of each bears no loss, since no token precedes it."""
    if len(samples) == 1:
        return samples[0]
    starts = tuple(accumulate((len(sample) for sample in samples[:-1]), initial=0))
    loss = np.concatenate([sample.bears_loss for sample in samples])
    kept = loss.copy()
    kept[list(starts)] = False
    soft = joined_soft_targets(samples)
    ids = np.concatenate([sample.ids for sample in samples])
    return Encoded(ids, kept, starts, soft.take(kept[loss]) if soft else None)
