"""Popularity: the same list for everyone, most training events first, without the items of the history.

Legend: R requests, I items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shelftalk.baselines.scored_catalogue import ItemScorer, ScoredCatalogue, scored_catalogue
from shelftalk.data.splitting import Split
from shelftalk.records import Request
from shelftalk.settings import Settings


@dataclass(frozen=True, eq=False)
class Popularity(ItemScorer):
    """Scores an item by `counts` [I] float32, its training events. Equal counts are in catalogue order, which
    is a seeded hash."""

    catalogue: ScoredCatalogue
    counts: np.ndarray
    name: str = "popularity"

    def item_scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] float32, read-only: the counts, once per request."""
        return np.broadcast_to(self.counts, (len(requests), len(self.counts)))

    def chosen_settings(self) -> Settings:
        """No settings."""
        return Settings()


def fit_popularity(split: Split, settings: Settings | None = None, seed: int = 0) -> Popularity:
    """Count the training events of each item. No settings, nothing random."""
    return Popularity(scored_catalogue(split), split.popularity.astype(np.float32))
