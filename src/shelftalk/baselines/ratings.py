"""Ratings as aligned arrays, and the choice by them: what the rating baselines share.

A model is fitted on `split.visible_rating` and chosen by the RMSE on the ratings held out for validation.

Legend: n ratings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import numpy as np

from shelftalk.data.splitting import VALIDATION, Split
from shelftalk.errors import NothingLeft
from shelftalk.records import Request

Estimate = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""[n] user numbers, [n] catalogue rows -> [n] estimates."""


@dataclass(frozen=True, eq=False)
class Ratings:
    """Aligned arrays: [n] user numbers, [n] catalogue rows, [n] ratings."""

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest rating."""
        return float(self.values.min()), float(self.values.max())

    def rmse(self, estimate: Estimate) -> float:
        """NaN without ratings."""
        if not len(self.values):
            return nan
        return float(np.sqrt(np.mean((estimate(self.users, self.items) - self.values) ** 2)))


def visible_ratings(split: Split) -> Ratings:
    """The ratings that a model may see. Raises NothingLeft where there are none."""
    ratings = _select(split, ~np.isnan(split.visible_rating))
    if not len(ratings.values):
        raise NothingLeft(
            "the data holds no rating that a model may see; leave the rating task out or give a rating "
            "column."
        )
    return ratings


def validation_ratings(split: Split) -> Ratings:
    """The ratings held out for validation; there may be none."""
    return _select(split, split.rating_part == VALIDATION)


def rated(request: Request) -> list[tuple[str, float]]:
    """The items of the request's history that have a rating, with it."""
    if not request.ratings:
        return []
    pairs = zip(request.history, request.ratings, strict=True)
    return [(item, rating) for item, rating in pairs if rating is not None]


def _select(split: Split, chosen: np.ndarray) -> Ratings:
    """The ratings of the chosen [E] events."""
    data = split.dataset
    return Ratings(split.event_user[chosen], data.event_item[chosen], data.event_rating[chosen])
