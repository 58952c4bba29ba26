"""Rating baselines that ignore the history: the mean of all ratings, and the biases of users and items.

    estimate(u, i) = mu + b_i + b_u
    b_i = sum over the item's ratings of (r - mu)       / (n_i + item_damping)
    b_u = sum over the user's ratings of (r - mu - b_i) / (n_u + user_damping)

From Koren, "Factor in the neighbors", ACM TKDD 4(1), 2010, section 2.1. All ratings
read are `split.visible_rating`.

Legend: I items, U users, E events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated

import numpy as np
from pydantic import Field

from shelftalk.data.splitting import VALIDATION, Split
from shelftalk.errors import NothingLeft
from shelftalk.recommender import check_items
from shelftalk.records import Request
from shelftalk.settings import Settings

Damping = Annotated[float, Field(gt=0)]


class BiasSettings(Settings):
    """What the bias model tries on validation; one value each fixes it."""

    item_damping: tuple[Damping, ...] = Field((0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0), min_length=1)
    """Numbers of average ratings added to an item's own, to try; above 0."""
    user_damping: tuple[Damping, ...] = Field((0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0), min_length=1)
    """Numbers of average ratings added to a user's own, to try; above 0."""


@dataclass(frozen=True)
class GlobalMean:
    """Rates every item of the catalogue with the mean of the visible ratings."""

    mean: float
    item_ids: frozenset[str]
    name: str = "global_mean"

    def rate(self, requests: Sequence[Request]) -> list[float]:
        """The same mean, once per request. Raises UnknownItem as every rater does."""
        check_items(requests, self.item_ids, "rating")
        return [self.mean] * len(requests)


@dataclass(frozen=True, eq=False)
class Bias:
    """Mean plus item bias plus user bias, clipped to `scale`, the lowest and highest visible rating.

    `item_bias` has every catalogue item, 0 for one without a visible rating; `user_bias` the users with one.
    """

    mean: float
    item_bias: dict[str, float]
    user_bias: dict[str, float]
    item_damping: float
    user_damping: float
    scale: tuple[float, float]
    validation_rmse: float
    name: str = "bias"

    def describe(self) -> dict[str, float]:
        """What was chosen on validation, and the RMSE that it reached there."""
        return {
            "item_damping": self.item_damping,
            "user_damping": self.user_damping,
            "validation rmse": self.validation_rmse,
        }

    def selection(self) -> list[str]:
        """What was chosen on validation, as a sentence."""
        return [
            f"{self.name}: {', '.join(f'{name} {value:.4g}' for name, value in self.describe().items())}."
        ]

    def rate(self, requests: Sequence[Request]) -> list[float]:
        """One estimate per request; the user bias of an unknown user comes from the ratings in
        the request's history.

        Raises UnknownItem as every rater does.
        """
        check_items(requests, self.item_bias, "rating")
        return [self._estimate(request) for request in requests]

    def _estimate(self, request: Request) -> float:
        user = self.user_bias.get(request.user)
        shift = self._bias_from_history(request) if user is None else user
        return float(np.clip(self.mean + self.item_bias[request.item] + shift, *self.scale))

    def _bias_from_history(self, request: Request) -> float:
        if not request.ratings:
            return 0.0
        rated = [
            (item, rating)
            for item, rating in zip(request.history, request.ratings, strict=True)
            if rating is not None
        ]
        deviation = sum(rating - self.mean - self.item_bias[item] for item, rating in rated)
        return deviation / (len(rated) + self.user_damping)


@dataclass(frozen=True, eq=False)
class _Ratings:
    """Aligned arrays: [n] user numbers, [n] catalogue rows, [n] ratings."""

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray


def fit_global_mean(split: Split, settings: Settings | None = None, seed: int = 0) -> GlobalMean:
    """Average the visible ratings; no settings, nothing random. Raises NothingLeft where there are none."""
    return GlobalMean(float(_visible(split).values.mean()), frozenset(split.dataset.item_ids))


def fit_bias(split: Split, settings: BiasSettings, seed: int = 0) -> Bias:
    """Fit both biases to the visible ratings and choose the damping by validation RMSE. Nothing is random.

    Raises NothingLeft where there are no visible or no validation ratings.
    """
    visible, validation = _visible(split), _validation(split)
    mean = float(visible.values.mean())
    scale = (float(visible.values.min()), float(visible.values.max()))
    sizes = (len(split.dataset.items), len(split.dataset.user_ids))
    quality: dict[tuple[float, float], float] = {}
    for damping in product(settings.item_damping, settings.user_damping):
        item_bias, user_bias = _biases(visible, mean, damping, sizes)
        estimates = np.clip(mean + item_bias[validation.items] + user_bias[validation.users], *scale)
        quality[damping] = float(np.sqrt(np.mean((estimates - validation.values) ** 2)))
    best = min(quality, key=quality.__getitem__)
    item_bias, user_bias = _biases(visible, mean, best, sizes)
    return Bias(
        mean,
        dict(zip(split.dataset.item_ids, item_bias.tolist(), strict=True)),
        {split.dataset.user_ids[user]: float(user_bias[user]) for user in np.unique(visible.users).tolist()},
        *best,
        scale,
        quality[best],
    )


def _biases(
    ratings: _Ratings, mean: float, damping: tuple[float, float], sizes: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """[I] item and [U] user biases; 0 where there is no rating."""
    residual = ratings.values - mean
    item_bias = _damped_mean(ratings.items, residual, damping[0], sizes[0])
    user_bias = _damped_mean(ratings.users, residual - item_bias[ratings.items], damping[1], sizes[1])
    return item_bias, user_bias


def _damped_mean(groups: np.ndarray, values: np.ndarray, damping: float, size: int) -> np.ndarray:
    """[size]: the sum of each group's values over its number plus `damping`."""
    return np.bincount(groups, values, minlength=size) / (np.bincount(groups, minlength=size) + damping)


def _visible(split: Split) -> _Ratings:
    ratings = _select(split, ~np.isnan(split.visible_rating))
    if not len(ratings.values):
        raise NothingLeft(
            "the data holds no rating that a model may see; leave the rating task out or give a rating "
            "column."
        )
    return ratings


def _validation(split: Split) -> _Ratings:
    ratings = _select(split, split.rating_part == VALIDATION)
    if not len(ratings.values):
        raise NothingLeft(
            "no rating is held out for validation, which chooses the damping; raise split.rating_validation."
        )
    return ratings


def _select(split: Split, chosen: np.ndarray) -> _Ratings:
    """The ratings of the chosen [E] events."""
    data = split.dataset
    return _Ratings(split.event_user[chosen], data.event_item[chosen], data.event_rating[chosen])
