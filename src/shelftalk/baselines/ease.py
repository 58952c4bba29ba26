"""ease: every item predicted from all others of a user, by ridge regression in closed form.

    B = I - P diag(1 / diag(P)),  P = (X^T X + l2 I)^-1

X [users, items] is 1 where a user took an item in training; the diagonal of B is 0, so that no item predicts
itself. Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019. The order of a history plays
no part, unless history_decay is set below 1, which the paper does not do.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from shelftalk.baselines.linear import Factor, LinearItems, LinearSettings, Positive, fit_linear, inverse
from shelftalk.data.similarity import shared_users
from shelftalk.data.splitting import Split


class EaseSettings(LinearSettings):
    """What ease tries on validation."""

    l2: tuple[Positive, ...] = Field((100.0, 300.0, 1000.0), min_length=1)
    """Strengths of the L2 penalty on B to try; above 0. Each costs an inverse."""
    history_decay: tuple[Factor, ...] = Field((1.0,), min_length=1)
    """Factors per step of age in the history of a request to try, each above 0 and up to 1; 1 is ease as
    published."""


def fit_ease(split: Split, settings: EaseSettings, seed: int) -> LinearItems:
    """Solve for every l2, and choose on validation (see `fit_linear`)."""
    together = shared_users(split, settings.user_events)

    def solve(solved: EaseSettings, items: np.ndarray) -> np.ndarray:
        weights = inverse(together[items][:, items], solved.l2[0])
        weights /= -np.diagonal(weights).copy()
        np.fill_diagonal(weights, 0)
        return weights

    return fit_linear(split, settings, seed, "ease", ("l2",), solve)
