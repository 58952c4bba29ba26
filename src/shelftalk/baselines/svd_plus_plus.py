"""svd_plus_plus: matrix factorisation of ratings that also reads which items a user took, rated or not.

    estimate(u, i) = mu + b_u + b_i + q_i . (p_u + s_u),  s_u = |N(u)|^-1/2 sum over j in N(u) of y_j
    minimise  sum over ratings of (r - estimate)^2 + l2 (|P|^2 + |Q|^2 + |Y|^2) + bias_l2 (|b_U|^2 + |b_I|^2)

N(u) are the items of the user's training events, also those whose rating is held out: that they were taken is
known, the value is not. Koren, "Factorization meets the neighborhood: a multifaceted collaborative filtering
model", KDD 2008, section 3. Solved by alternating least squares where the paper takes gradient steps: users,
items, then Y by conjugate gradients, each of which lowers what is minimised and needs no learning rate.

Legend: U users, I items, K factors, n ratings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from shelftalk import seeds
from shelftalk.baselines.matrix_factorisation import (
    Factors,
    MatrixFactorisation,
    MatrixFactorisationSettings,
    Positive,
    RatingTable,
    Size,
    best_factors,
    numbers_of_raters,
    solve_rows,
)
from shelftalk.baselines.ratings import Ratings
from shelftalk.data.splitting import Split
from shelftalk.records import Request

STEPS = 5
"""Conjugate gradient steps each time that Y is solved, from where it stood."""


class SvdPlusPlusSettings(MatrixFactorisationSettings):
    """What svd_plus_plus tries on validation; one value each fixes it."""

    factors: tuple[Size, ...] = Field((16, 32), min_length=1)
    """Numbers of factors to try."""
    l2: tuple[Positive, ...] = Field((15.0, 20.0, 30.0), min_length=1)
    """Strengths of the L2 penalty on factors to try; above 0."""


@dataclass(frozen=True, eq=False)
class ImplicitFactors(Factors):
    """`users` [U, K] is p_u + s_u, `taken` [I, K] is Y."""

    taken: np.ndarray


@dataclass(frozen=True, eq=False)
class SvdPlusPlus(MatrixFactorisation):
    """As MatrixFactorisation; an unknown user is solved from the ratings in the history and from what else
    is in it."""

    name: str = "svd_plus_plus"

    def folded_in(self, request: Request) -> tuple[float, np.ndarray]:
        """Bias and [K] vector p + s by the history and its ratings."""
        factors = self.factors
        assert isinstance(factors, ImplicitFactors)
        rows = sorted({self.item_row[item] for item in request.history})
        implicit = factors.taken[rows].sum(axis=0) / np.sqrt(max(len(rows), 1))
        bias, vector = self.solved(request, implicit)
        return bias, vector + implicit


def fit_svd_plus_plus(split: Split, settings: SvdPlusPlusSettings, seed: int) -> SvdPlusPlus:
    """Factorise with every combination of settings, and choose by validation RMSE (see `best_factors`)."""
    data, taken = split.dataset, taken_rows(split)
    best, ratings, choice = best_factors(
        "svd_plus_plus", split, settings, lambda *given: factorise_with_taken(given[0], taken, given[1], seed)
    )
    raters = numbers_of_raters(split, ratings)
    return SvdPlusPlus(best, ratings.mean, ratings.scale, raters, data.row_of, choice)


def taken_rows(split: Split) -> csr_matrix:
    """[U, I]: |N(u)|^-1/2 at the items of N(u)."""
    shape = (len(split.dataset.user_ids), len(split.dataset.items))
    number = np.bincount(split.training_users, minlength=shape[0])
    values = number[split.training_users] ** -0.5
    return csr_matrix((values, (split.training_users, split.training_items)), shape)


def factorise_with_taken(
    ratings: Ratings, taken: csr_matrix, settings: SvdPlusPlusSettings, seed: int
) -> ImplicitFactors:
    """Solve items, Y and users in turn, users first and last. The first item factors are drawn by seed; Y
    starts from 0."""
    table, values = RatingTable(ratings, *taken.shape), ratings.values - ratings.mean
    size = taken.shape[1], settings.factors[0]
    items, implicit = seeds.generator(seed, "svd_plus_plus").normal(0, 0.1, size), np.zeros(size)
    implied = taken @ implicit  # [U, K] s
    own, user_bias = solve_rows(items, table.by("user", values), settings)
    for _ in range(settings.iterations):
        of_item = table.by("item", values - user_bias[ratings.users])
        items, item_bias = solve_rows(own + implied, of_item, settings)
        known = Factors(user_bias, item_bias, own, items)
        rest = values - known.estimate(ratings.users, ratings.items)
        implicit = solve_taken(implicit, rest, items, ratings, table, taken, settings.l2[0])
        implied = taken @ implicit
        known = Factors(np.zeros(len(implied)), item_bias, implied, items)
        of_user = table.by("user", values - known.estimate(ratings.users, ratings.items))
        own, user_bias = solve_rows(items, of_user, settings)
    return ImplicitFactors(user_bias, item_bias, own + implied, items, implicit)


def solve_taken(
    start: np.ndarray,
    rest: np.ndarray,
    items: np.ndarray,
    ratings: Ratings,
    table: RatingTable,
    taken: csr_matrix,
    l2: float,
) -> np.ndarray:
    """[I, K]: Y that minimises sum (rest - q_i . s_u)^2 + l2 |Y|^2, for `rest` [n], by STEPS steps from
    `start`."""

    def back(errors: np.ndarray) -> np.ndarray:
        result: np.ndarray = taken.T @ (table.by("user", errors) @ items)
        return result

    def apply(implicit: np.ndarray) -> np.ndarray:
        implied = taken @ implicit
        return back(np.einsum("nk,nk->n", items[ratings.items], implied[ratings.users])) + l2 * implicit

    return conjugate_gradients(apply, back(rest), start, STEPS)


def conjugate_gradients(
    apply: Callable[[np.ndarray], np.ndarray], target: np.ndarray, start: np.ndarray, steps: int
) -> np.ndarray:
    """x of apply(x) = target, for a linear, symmetric and positive definite `apply`: `steps` steps from
    `start`. Hestenes and Stiefel, 1952."""
    solution, residual = start, target - apply(start)
    direction, norm = residual, np.vdot(residual, residual)
    for _ in range(steps):
        if norm == 0:
            break
        image = apply(direction)
        step = norm / np.vdot(direction, image)
        solution, residual = solution + step * direction, residual - step * image
        previous, norm = norm, np.vdot(residual, residual)
        direction = residual + norm / previous * direction
    return solution
