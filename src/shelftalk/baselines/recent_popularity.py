"""recent_popularity: the same list for everyone, by the training events of the last days.

The days are counted back from the last training event. Where the events have an order and no times, each
user's last few training events count instead; without any order all of them do, as in popularity. Recency as
a baseline: Ji, Sun, Zhang, Li, "A re-visit of the popularity baseline in recommender systems", SIGIR 2020.

Legend: R requests, I items, E events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
from pydantic import Field

from shelftalk.baselines.scored_catalogue import ItemScorer, ScoredCatalogue, scored_catalogue
from shelftalk.baselines.validation import (
    VALIDATION_USERS,
    Choice,
    Chosen,
    choose,
    mean_ndcg,
    validation_sample,
    variants,
)
from shelftalk.data.splitting import TRAIN, Split
from shelftalk.records import Request
from shelftalk.settings import Settings

DAY = 86_400  # seconds


class RecentPopularitySettings(Settings):
    """What recent_popularity tries on validation; one value fixes it."""

    days: tuple[Annotated[float, Field(gt=0)], ...] = Field((7.0, 30.0, 90.0, 365.0, 1095.0), min_length=1)
    """Days before the last training event whose events count, to try; above 0."""
    events: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 2, 5, 10, 20), min_length=1)
    """Most recent training events of each user that count, to try; where the data has no times."""
    validation_users: int = Field(VALIDATION_USERS, ge=1)
    """Validation users at most, drawn by seed; with more of them the choice varies less and takes longer."""


@dataclass(frozen=True, eq=False)
class RecentPopularity(Chosen, ItemScorer):
    """Scores an item by `counts` [I] float32, its recent training events. Equal counts are in the order of
    all training events."""

    catalogue: ScoredCatalogue
    counts: np.ndarray
    choice: Choice[RecentPopularitySettings]
    name: str = "recent_popularity"

    def item_scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] float32, read-only: the counts, once per request."""
        return _same_for_all(self.counts, requests)

    def chosen_words(self) -> str:
        """Which events count, in words."""
        return super().chosen_words() or "all training events, since they have no order"


def fit_recent_popularity(split: Split, settings: RecentPopularitySettings, seed: int) -> RecentPopularity:
    """Count with every length of the recent past, and choose by NDCG@10 on validation."""
    catalogue = scored_catalogue(split)
    requests, truths = validation_sample(split, settings.validation_users, seed, "recent_popularity")
    names = recent_by(split)
    qualities: dict[RecentPopularitySettings, float] = {}
    for variant in variants(settings, *names):
        score = partial(_same_for_all, recent_counts(split, variant))
        qualities[variant] = mean_ndcg(catalogue, score, requests, truths)
    choice = choose("recent_popularity", names, qualities, "ndcg@10")
    return RecentPopularity(catalogue, recent_counts(split, choice.settings), choice)


def _same_for_all(counts: np.ndarray, requests: Sequence[Request]) -> np.ndarray:
    """[R, I] the counts, once per request."""
    return np.broadcast_to(counts, (len(requests), len(counts)))


def recent_by(split: Split) -> tuple[str, ...]:
    """The setting by which this data says what is recent."""
    if not split.dataset.ordered:
        return ()
    return ("days",) if split.dataset.has_times else ("events",)


def recent_counts(split: Split, settings: RecentPopularitySettings) -> np.ndarray:
    """[I] float32: the recent training events of each item, by the first value of the settings."""
    data, recent = split.dataset, split.event_part == TRAIN  # [E]
    for name in recent_by(split):
        if name == "days":
            time = data.event_second
            recent &= time > time[recent].max() - settings.days[0] * DAY
        else:
            row, stop = np.arange(len(recent)), split.training_bounds[split.event_user, 1]
            recent &= row >= stop - settings.events[0]
    return np.bincount(data.event_item[recent], minlength=len(data.items)).astype(np.float32)
