"""matrix_factorisation: ratings as mean, biases and a product of factors, by alternating least squares.

    estimate(u, i) = mu + b_u + b_i + p_u . q_i
    minimise  sum over ratings of (r - estimate)^2 + l2 (|P|^2 + |Q|^2) + bias_l2 (|b_U|^2 + |b_I|^2)

Koren, Bell, Volinsky, "Matrix factorization techniques for recommender systems", IEEE Computer 42(8), 2009.
A user without a visible rating is solved from the ratings in the history of the request: the same step that
solved the others.

Legend: U users, I items, K factors, n ratings, N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from shelftalk import seeds
from shelftalk.baselines.least_squares import ridge_rows
from shelftalk.baselines.ratings import Ratings, rated, validation_ratings, visible_ratings
from shelftalk.baselines.validation import Choice, Chosen, choose, variants
from shelftalk.data.splitting import Split
from shelftalk.recommender import check_items
from shelftalk.records import Request
from shelftalk.settings import Settings

Positive = Annotated[float, Field(gt=0)]
Size = Annotated[int, Field(ge=1)]
CHOSEN = ("factors", "l2", "bias_l2")


class MatrixFactorisationSettings(Settings):
    """What matrix_factorisation tries on validation; one value each fixes it."""

    factors: tuple[Size, ...] = Field((8, 16, 32), min_length=1)
    """Numbers of factors to try."""
    l2: tuple[Positive, ...] = Field((10.0, 15.0, 20.0), min_length=1)
    """Strengths of the L2 penalty on factors to try; above 0."""
    bias_l2: tuple[Positive, ...] = Field((3.0,), min_length=1)
    """Strengths of the L2 penalty on biases to try; above 0."""
    iterations: int = Field(20, ge=1)
    """How often users and items are solved in turn."""


@dataclass(frozen=True, eq=False)
class Factors:
    """[U] and [I] biases, [U, K] and [I, K] factors; zeros for what has no rating."""

    user_bias: np.ndarray
    item_bias: np.ndarray
    users: np.ndarray
    items: np.ndarray

    def estimate(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """[n] estimates above the mean of user numbers and catalogue rows."""
        products = np.einsum("nk,nk->n", self.users[users], self.items[items])
        result: np.ndarray = self.user_bias[users] + self.item_bias[items] + products
        return result


@dataclass(frozen=True, eq=False)
class MatrixFactorisation(Chosen):
    """Estimates clipped to `scale`, the lowest and highest visible rating. `user_number`: of the users with a
    visible rating."""

    factors: Factors
    mean: float
    scale: tuple[float, float]
    user_number: dict[str, int]
    item_row: dict[str, int]
    choice: Choice[Any]
    name: str = "matrix_factorisation"

    def rate(self, requests: Sequence[Request]) -> list[float]:
        """One estimate per request; a user without a visible rating is solved from the ratings in the
        request's history. Raises UnknownItem as every rater does."""
        check_items(requests, self.item_row, "rating")
        return [self._rate(request) for request in requests]

    def _rate(self, request: Request) -> float:
        item, user = self.item_row[request.item], self.user_number.get(request.user)
        bias, vector = self.folded_in(request) if user is None else self.user(user)
        above = bias + self.factors.item_bias[item] + self.factors.items[item] @ vector
        return float(np.clip(self.mean + above, *self.scale))

    def user(self, number: int) -> tuple[float, np.ndarray]:
        """Bias and [K] vector of a user with a visible rating."""
        return float(self.factors.user_bias[number]), self.factors.users[number]

    def folded_in(self, request: Request) -> tuple[float, np.ndarray]:
        """Bias and [K] vector by the rated items of the history."""
        return self.solved(request, np.zeros(self.factors.items.shape[1]))

    def solved(self, request: Request, known: np.ndarray) -> tuple[float, np.ndarray]:
        """Bias and [K] vector by the rated items of the history, what the vector `known` [K] explains
        aside."""
        pairs = rated(request)
        rows = np.array([self.item_row[item] for item, _ in pairs], np.int64)
        explained = self.mean + self.factors.item_bias[rows] + self.factors.items[rows] @ known
        above = np.array([rating for _, rating in pairs]) - explained
        one_user = csr_matrix((above, rows, [0, len(rows)]), (1, len(self.item_row)))
        vectors, biases = solve_rows(self.factors.items, one_user, self.choice.settings)
        return float(biases[0]), vectors[0]


class RatingTable:
    """Values of the ratings, as a matrix by user or by item, made again for other values of the same
    ratings."""

    def __init__(self, ratings: Ratings, users: int, items: int) -> None:
        numbers = np.arange(len(ratings.values))
        by_user = csr_matrix((numbers, (ratings.users, ratings.items)), (users, items))
        self._by = {"user": by_user, "item": csr_matrix(by_user.T)}

    def by(self, side: str, values: np.ndarray) -> csr_matrix:
        """[U, I] by "user" or [I, U] by "item" of `values` [n]."""
        numbers = self._by[side]
        return csr_matrix((values[numbers.data], numbers.indices, numbers.indptr), numbers.shape)


def solve_rows(
    features: np.ndarray, values: csr_matrix, settings: MatrixFactorisationSettings
) -> tuple[np.ndarray, np.ndarray]:
    """[N, K] factors and [N] biases of the rows of `values` [N, J] against the `features` [J, K]."""
    with_bias = np.hstack([features, np.ones((len(features), 1))])
    penalty = np.full(with_bias.shape[1], settings.l2[0])
    penalty[-1] = settings.bias_l2[0]
    solved = ridge_rows(with_bias, values, np.diag(penalty))
    return solved[:, :-1], solved[:, -1]


def factorise(
    ratings: Ratings, sizes: tuple[int, int], settings: MatrixFactorisationSettings, seed: int
) -> Factors:
    """Solve users and items in turn, users last, so that a known user has what folding in gives. The first
    item factors are drawn by seed."""
    table, values = RatingTable(ratings, *sizes), ratings.values - ratings.mean
    items = seeds.generator(seed, "matrix factorisation").normal(0, 0.1, (sizes[1], settings.factors[0]))
    users, user_bias = solve_rows(items, table.by("user", values), settings)
    for _ in range(settings.iterations):
        of_item = table.by("item", values - user_bias[ratings.users])
        items, item_bias = solve_rows(users, of_item, settings)
        of_user = table.by("user", values - item_bias[ratings.items])
        users, user_bias = solve_rows(items, of_user, settings)
    return Factors(user_bias, item_bias, users, items)


FactorsT = TypeVar("FactorsT", bound=Factors)
MfSettingsT = TypeVar("MfSettingsT", bound=MatrixFactorisationSettings)


def best_factors(
    name: str, split: Split, settings: MfSettingsT, factorise: Callable[[Ratings, MfSettingsT], FactorsT]
) -> tuple[FactorsT, Ratings, Choice[MfSettingsT]]:
    """Factorise the visible ratings with every combination of settings: the factors with the best validation
    RMSE, the ratings, and the choice.

    Raises NothingLeft where there are no visible ratings, or no validation ratings to choose by.
    """
    ratings, validation = visible_ratings(split), validation_ratings(split)
    qualities: dict[MfSettingsT, float] = {}
    for variant in variants(settings, *CHOSEN):
        factors = factorise(ratings, variant)

        def estimate(users: np.ndarray, items: np.ndarray, factors: FactorsT = factors) -> np.ndarray:
            return np.clip(ratings.mean + factors.estimate(users, items), *ratings.scale)

        quality = validation.rmse(estimate)
        if not qualities or quality < min(qualities.values()):
            best = factors
        qualities[variant] = quality
    return best, ratings, choose(name, CHOSEN, qualities, "rmse")


def numbers_of_raters(split: Split, ratings: Ratings) -> dict[str, int]:
    """User id -> number, of the users with a rating."""
    return {split.dataset.user_ids[user]: user for user in np.unique(ratings.users).tolist()}


def fit_matrix_factorisation(
    split: Split, settings: MatrixFactorisationSettings, seed: int
) -> MatrixFactorisation:
    """Factorise with every combination of settings, and choose by validation RMSE (see `best_factors`)."""
    data = split.dataset
    sizes = len(data.user_ids), len(data.items)
    best, ratings, choice = best_factors(
        "matrix_factorisation", split, settings, lambda *given: factorise(given[0], sizes, given[1], seed)
    )
    raters = numbers_of_raters(split, ratings)
    return MatrixFactorisation(best, ratings.mean, ratings.scale, raters, data.row_of, choice)
