"""Short samples side by side in one row, each trained as if it stood alone (decoder-only).

With length buckets (batching.py) a tenth to a fifth of a batch is padding; with full rows a few hundredths,
at the price of an attention mask per row. Example, in rows of 10 tokens:

    lengths [7, 3, 5, 4]    rows [[0, 1], [2, 3]]: sample 1 goes where it leaves the least space

Legend: N samples.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import accumulate

import numpy as np

from shelftalk.models.text_encoder import Encoded, joined_sets, joined_soft_targets

NO_SHARED_ROWS = "an encoder-decoder cannot have several samples in one row; set training.row_tokens = 0."


def packed_rows(lengths: Sequence[int], row_tokens: int) -> list[list[int]]:
    """Positions of the samples of `lengths` [N] in rows of at most `row_tokens` tokens; a longer sample is a
    row of its own.

    Best fit, the longest first: each sample goes where it leaves the least space (Johnson et al., SIAM J.
    Comput. 3, 1974).
    """
    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}  # tokens left -> heap of the rows with so many, none of them full
    spaces: list[int] = []  # its keys, ascending
    for position in sorted(range(len(lengths)), key=lambda position: -lengths[position]):
        tightest = bisect_left(spaces, lengths[position])
        if tightest < len(spaces):
            left = spaces[tightest]
            row = heappop(open_rows[left])
            if not open_rows[left]:
                del open_rows[left], spaces[tightest]
        else:
            left, row = row_tokens, len(rows)
            rows.append([])
        rows[row].append(position)
        if (left := left - lengths[position]) > 0:
            if left not in open_rows:
                insort(spaces, left)
            heappush(open_rows.setdefault(left, []), row)
    return rows


def side_by_side(samples: Sequence[Encoded]) -> Encoded:
    """One row of several samples; the first token of each bears no loss, since no token precedes it."""
    if len(samples) == 1:
        return samples[0]
    starts = tuple(accumulate((len(sample) for sample in samples[:-1]), initial=0))
    loss = np.concatenate([sample.bears_loss for sample in samples])
    kept = loss.copy()
    kept[list(starts)] = False
    soft, sets = joined_soft_targets(samples), joined_sets(samples)
    labels = kept[loss]
    ids = np.concatenate([sample.ids for sample in samples])
    return Encoded(
        ids, kept, starts, soft.take(labels) if soft else None, sets[labels] if sets is not None else None
    )
