"""Windows of histories: which events are in one sample.

Legend: U users, W windows.
"""

from __future__ import annotations

import numpy as np

from shelftalk.ragged import offsets_of


def windows(
    bounds: np.ndarray, size: int, rng: np.random.Generator, targets: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut every history `bounds` [U, 2] (event rows, from : to) into windows of at most `size` events.

    Returns owner [W] (row of `bounds`), start [W] and stop [W] (event rows), and first [W], the position in
    the window from which on events bear loss. The first cut of a history is random, so that over the epochs
    every event is seen at every distance from the start of its window. Windows of a single event are left
    out, except where the history has no other; a history without events has no window.

    Where only the last `targets` events of a window bear loss, the windows overlap and their ends are
    `targets` apart, counted from a random end; the events after that end bear loss in one more window, at the
    end of the history. Each event bears loss once.
    """
    begin, length = bounds[:, 0], bounds[:, 1] - bounds[:, 0]
    if targets:
        after = rng.integers(np.clip(length, 1, targets))  # [U] events after the random end
        last = length - after
        owner, position = _numbered(-(-last // targets) + (after > 0))
        position -= after[owner] > 0  # -1: the window at the end
        stop = np.where(position < 0, length[owner], last[owner] - position * targets)
        start = np.maximum(0, stop - size)
        first = np.where(position < 0, last[owner], stop - targets).clip(start) - start
    else:
        offset = np.where(length > size, rng.integers(size, size=len(length)), 0)
        owner, position = _numbered((offset > 0) + -(-(length - offset) // size))
        position -= offset[owner] > 0  # -1: the events before the first cut
        start = np.maximum(0, offset[owner] + position * size)
        stop = np.minimum(length[owner], offset[owner] + (position + 1) * size)
        kept = (stop - start > 1) | (length[owner] == 1)
        owner, start, stop = owner[kept], start[kept], stop[kept]
        first = np.zeros(len(owner), np.int64)
    return owner, begin[owner] + start, begin[owner] + stop, first


def _numbered(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Owner and number of each of `counts[u]` things: [2, 0, 1] -> [0, 0, 2], [0, 1, 0]."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(offsets_of(counts)[:-1], counts)
