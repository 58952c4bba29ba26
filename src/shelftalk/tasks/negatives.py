"""Items that a user has not taken, as far as training may know.

Drawn uniformly over everything outside the user's *training* items: leaving a held-out item out of the negatives would
itself be a hint, so what is held out is not consulted.
"""

from __future__ import annotations

import numpy as np

from shelftalk.data.splitting import Split


class Negatives:
    """Draws negatives for user numbers of one split."""

    def __init__(self, split: Split) -> None:
        self._ids = split.dataset.item_ids
        item = split.dataset.event_item
        self._taken = [set(item[first:stop].tolist()) for first, stop in split.training_bounds.tolist()]

    def draw(self, user: int, number: int, draw: np.random.Generator) -> list[str]:
        """`number` distinct item ids; fewer only where the catalogue holds no more outside the user's training items."""
        taken, found = self._taken[user], dict[int, None]()
        wanted = min(number, len(self._ids) - len(taken))
        while len(found) < wanted:
            for row in draw.integers(len(self._ids), size=2 * (wanted - len(found)) + 2).tolist():
                if row not in taken and len(found) < wanted:
                    found[row] = None
        return [self._ids[row] for row in found]
