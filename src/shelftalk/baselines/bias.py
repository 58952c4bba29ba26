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
from typing import Annotated

import numpy as np
from pydantic import Field

from shelftalk.baselines.ratings import Ratings, rated, validation_ratings, visible_ratings
from shelftalk.baselines.validation import Choice, Chosen, choose, variants
from shelftalk.data.splitting import Split
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

    def chosen_settings(self) -> Settings:
        """No settings."""
        return Settings()


@dataclass(frozen=True, eq=False)
class Bias(Chosen):
    """Mean plus item bias plus user bias, clipped to `scale`, the lowest and highest visible rating.

    `item_bias` has every catalogue item, 0 for one without a visible rating; `user_bias` the users with one.
    """

    mean: float
    item_bias: dict[str, float]
    user_bias: dict[str, float]
    user_damping: float
    scale: tuple[float, float]
    choice: Choice[BiasSettings]
    name: str = "bias"

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
        pairs = rated(request)
        deviation = sum(rating - self.mean - self.item_bias[item] for item, rating in pairs)
        return deviation / (len(pairs) + self.user_damping)


def fit_global_mean(split: Split, settings: Settings | None = None, seed: int = 0) -> GlobalMean:
    """Average the visible ratings; no settings, nothing random. Raises NothingLeft where there are none."""
    return GlobalMean(visible_ratings(split).mean, frozenset(split.dataset.item_ids))


def fit_bias(split: Split, settings: BiasSettings, seed: int = 0) -> Bias:
    """Fit both biases to the visible ratings and choose the damping by validation RMSE. Nothing is random.

    Raises NothingLeft where there are no visible ratings, or no validation ratings to choose by.
    """
    ratings, validation = visible_ratings(split), validation_ratings(split)
    sizes = (len(split.dataset.items), len(split.dataset.user_ids))

    def rmse(variant: BiasSettings) -> float:
        item_bias, user_bias = damped_biases(ratings, variant, sizes)
        return validation.rmse(
            lambda users, items: np.clip(ratings.mean + item_bias[items] + user_bias[users], *ratings.scale)
        )

    names = ("item_damping", "user_damping")
    qualities = {variant: rmse(variant) for variant in variants(settings, *names)}
    choice = choose("bias", names, qualities, "rmse")
    item_bias, user_bias = damped_biases(ratings, choice.settings, sizes)
    return Bias(
        ratings.mean,
        dict(zip(split.dataset.item_ids, item_bias.tolist(), strict=True)),
        {split.dataset.user_ids[user]: float(user_bias[user]) for user in np.unique(ratings.users).tolist()},
        choice.settings.user_damping[0],
        ratings.scale,
        choice,
    )


def damped_biases(
    ratings: Ratings, settings: BiasSettings, sizes: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """[I] item and [U] user biases, by the first damping of each; 0 where there is no rating."""
    residual = ratings.values - ratings.mean
    item_bias = _damped_mean(ratings.items, residual, settings.item_damping[0], sizes[0])
    residual = residual - item_bias[ratings.items]
    return item_bias, _damped_mean(ratings.users, residual, settings.user_damping[0], sizes[1])


def _damped_mean(groups: np.ndarray, values: np.ndarray, damping: float, size: int) -> np.ndarray:
    """[size]: the sum of each group's values over its number plus `damping`."""
    return np.bincount(groups, values, minlength=size) / (np.bincount(groups, minlength=size) + damping)
