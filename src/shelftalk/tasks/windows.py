"""Windows of histories: which events stand in one sample.

Legend: U users, W windows.
"""

from __future__ import annotations

import numpy as np

from shelftalk.ragged import offsets_of


def windows(
    bounds: np.ndarray, size: int, draw: np.random.Generator, targets: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut every history `bounds` [U, 2] (event rows, from : to) into windows of at most `size` events.

    Returns owner [W] (row of `bounds`), start [W] and stop [W] (event rows), and first [W], the place in the
    window from which on events bear loss. The first cut of a history is drawn by chance, so that over the
    epochs every event is seen at every distance from the start of its window. Windows of a single event are
    left out, except where it is all.

    Where only the last `targets` events of a window are to bear loss, the windows overlap and their ends
    stand `targets` apart, from an end drawn by chance; the window at the end of the history bears the loss of
    what lies behind that. Each event bears loss once.
    """
    begin, length = bounds[:, 0], bounds[:, 1] - bounds[:, 0]
    if targets:
        behind = draw.integers(np.minimum(targets, length))
        last = length - behind
        owner, position = _numbered(-(-last // targets) + (behind > 0))
        position -= behind[owner] > 0  # -1: the window at the end
        stop = np.where(position < 0, length[owner], last[owner] - position * targets)
        start = np.maximum(0, stop - size)
        first = np.where(position < 0, last[owner], stop - targets).clip(start) - start
    else:
        offset = np.where(length > size, draw.integers(size, size=len(length)), 0)
        owner, position = _numbered((offset > 0) + -(-(length - offset) // size))
        position -= offset[owner] > 0  # -1: what stands before the first cut
        start = np.maximum(0, offset[owner] + position * size)
        stop = np.minimum(length[owner], offset[owner] + (position + 1) * size)
        kept = (stop - start > 1) | (length[owner] == 1)
        owner, start, stop = owner[kept], start[kept], stop[kept]
        first = np.zeros(len(owner), np.int64)
    return owner, begin[owner] + start, begin[owner] + stop, first


def _numbered(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Owner and number, from 0, of each of `counts[u]` things."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(offsets_of(counts)[:-1], counts)
