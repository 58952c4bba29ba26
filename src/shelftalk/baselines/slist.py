"""slist: items that go together and items that follow, weighed against each other, in closed form.

    B = argmin alpha |X - X B|^2 + (1 - alpha) |T - S B|^2 + l2 |B|^2,  diag(B) = 0
      = P (M - diag(g)),  P = (alpha X^T X + (1 - alpha) S^T S + l2 I)^-1,
                          M = alpha X^T X + (1 - alpha) S^T T,  g_j = (P M)_jj / P_jj

X [users, items] is 1 where a user took an item in training (consistency: alpha = 1 is ease). S and T have a
row for every cut of a training history in two: source_decay^age of the items before the cut, age 0 the last
of them, and target_decay^delay of those after it, delay 0 the first (transition).

Choi, Kim, Lee, Shim, Lee, "Session-aware linear item-item models for session-based recommendation", WWW 2021.
Their sessions are our users; the weights by a session's own age are left out, and since no user takes an item
twice, the diagonal is 0.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix, diags_array

from shelftalk.baselines.linear import (
    Factor,
    LinearItems,
    LinearSettings,
    ages,
    fit_linear,
    inverse,
    times,
    trained_items,
    user_sums,
)
from shelftalk.data.similarity import shared_users
from shelftalk.data.splitting import Split

Share = Annotated[float, Field(ge=0, le=1)]


class SlistSettings(LinearSettings):
    """What slist tries on validation."""

    alpha: tuple[Share, ...] = Field((0.2, 0.5), min_length=1)
    """Shares of consistency against transition to try, each from 0 to 1; 1 without an order. Each costs an
    inverse."""
    source_decay: tuple[Factor, ...] = Field((0.8,), min_length=1)
    """Factors per step of age of the items before a cut to try, each above 0 and up to 1."""
    target_decay: tuple[Factor, ...] = Field((0.2,), min_length=1)
    """Factors per step of delay of the items after a cut to try, each above 0 and up to 1."""


def fit_slist(split: Split, settings: SlistSettings, seed: int) -> LinearItems:
    """Solve for every combination of settings, and choose on validation (see `fit_linear`). Without an order
    there is nothing to cut: alpha is 1."""
    if not split.dataset.ordered:
        settings = settings.model_copy(
            update={"alpha": (1.0,), "source_decay": (1.0,), "target_decay": (1.0,)}
        )
    together = csr_matrix(shared_users(split, settings.user_events), dtype=np.float32)

    @lru_cache(maxsize=1)
    def transitions(source_decay: float, target_decay: float) -> tuple[csr_matrix, csr_matrix]:
        items = trained_items(split, settings, "slist")
        return user_sums(
            split, items, settings.user_events, lambda a, b: cuts(b - a, source_decay, target_decay)
        )

    def solve(solved: SlistSettings, items: np.ndarray) -> np.ndarray:
        alpha, x_x = np.float32(solved.alpha[0]), together[items][:, items]
        s_s, s_t = transitions(solved.source_decay[0], solved.target_decay[0])
        weights = inverse(alpha * x_x + (1 - alpha) * s_s, solved.l2[0])
        return without_diagonal(weights, csr_matrix(alpha * x_x + (1 - alpha) * s_t))

    names = ("source_decay", "target_decay", "alpha", "l2")
    return fit_linear(split, settings, seed, "slist", names, solve)


def cuts(length: int, source_decay: float, target_decay: float) -> tuple[np.ndarray, np.ndarray]:
    """S and T of one user, [n, n - 1]: the weights of the n items before and after each of the n - 1 cuts."""
    age = ages(length)[:, 1:]  # cut t is before item t + 1, the first target
    source = np.where(age >= 0, source_decay ** np.maximum(age, 0), 0.0)
    target = np.where(age < 0, target_decay ** np.maximum(-age - 1, 0), 0.0)
    return source, target


def without_diagonal(inverted: np.ndarray, moves: csr_matrix) -> np.ndarray:
    """P (M - diag(g)) with a diagonal of 0, in the memory of P; both [T, T]."""
    diagonal = np.diagonal(inverted).copy()
    cells = moves.tocoo()
    # P is symmetric: (P M)_jj is the sum over k of P_kj M_kj
    product = np.bincount(cells.col, inverted[cells.row, cells.col] * cells.data, len(diagonal))
    weights = times(inverted, csr_matrix(moves - diags_array(product / diagonal)))
    np.fill_diagonal(weights, 0)
    return weights
