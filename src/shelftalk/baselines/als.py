"""als: matrix factorisation of what was taken, by alternating least squares over all items.

    minimise  sum over users u and all items i of c_ui (p_ui - x_u . y_i)^2 + l2 (|X|^2 + |Y|^2)

p_ui is 1 and c_ui = 1 + confidence for a training event, p_ui = 0 and c_ui = 1 for everything else. Hu,
Koren, Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008. A request's user vector
is solved from its history, for known users too, so that what was taken after training counts.

Legend: R requests, U users, I items, K factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from shelftalk import seeds
from shelftalk.baselines.histories import history_weights
from shelftalk.baselines.least_squares import ridge_rows
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
from shelftalk.data.splitting import Split
from shelftalk.records import Request
from shelftalk.settings import Settings

Positive = Annotated[float, Field(gt=0)]
Size = Annotated[int, Field(ge=1)]


class AlsSettings(Settings):
    """What als tries on validation; one value each fixes it."""

    factors: tuple[Size, ...] = Field((64,), min_length=1)
    """Numbers of factors to try."""
    l2: tuple[Positive, ...] = Field((3.0, 10.0), min_length=1)
    """Strengths of the L2 penalty to try; above 0."""
    confidence: tuple[Positive, ...] = Field((1.0, 10.0), min_length=1)
    """How much more an event that was taken counts than one that was not, to try; above 0."""
    iterations: int = Field(10, ge=1)
    """How often users and items are solved in turn."""
    validation_users: int = Field(VALIDATION_USERS, ge=1)
    """Validation users at most, drawn by seed; with more of them the choice varies less and takes longer."""


@dataclass(frozen=True, eq=False)
class Als(Chosen, ItemScorer):
    """`factors` [I, K] float64: Y, zeros for an item without a training event."""

    catalogue: ScoredCatalogue
    factors: np.ndarray
    choice: Choice[AlsSettings]
    name: str = "als"

    def item_scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] float32: x . y. Raises UnknownItem for an id outside the catalogue."""
        settings = self.choice.settings
        taken = history_weights(requests, self.catalogue, decay=1.0)
        taken.data[:] = 1  # an item that the history repeats is taken all the same
        users = _solve(self.factors, taken, settings.l2[0], settings.confidence[0])
        scores = np.empty((len(requests), len(self.factors)), np.float32)
        for row, user in enumerate(users):  # one by one: a product of matrices rounds by the size of a batch
            scores[row] = self.factors @ user
        return scores


def fit_als(split: Split, settings: AlsSettings, seed: int) -> Als:
    """Factorise with every combination of settings, and choose by NDCG@10 on validation. The first item
    factors are drawn by seed."""
    catalogue = scored_catalogue(split)
    requests, truths = validation_sample(split, settings.validation_users, seed, "als")
    shape = (len(split.dataset.user_ids), len(split.dataset.items))
    ones = np.ones(len(split.training_items))
    taken = csr_matrix((ones, (split.training_users, split.training_items)), shape)  # [U, I]
    qualities: dict[AlsSettings, float] = {}
    names = ("factors", "l2", "confidence")
    for variant in variants(settings, *names):
        given = Choice(variant, names, "ndcg@10", nan, 1)
        model = Als(catalogue, _item_factors(taken, variant, seed), given)
        quality = mean_ndcg(catalogue, model.item_scores, requests, truths)
        if not qualities or quality > max(qualities.values()):
            best = model
        qualities[variant] = quality
    choice = choose("als", names, qualities, "ndcg@10")
    return Als(catalogue, best.factors, choice)


def _item_factors(taken: csr_matrix, settings: AlsSettings, seed: int) -> np.ndarray:
    """[I, K]: Y after all iterations."""
    by_item = csr_matrix(taken.T)
    size, l2, confidence = settings.factors[0], settings.l2[0], settings.confidence[0]
    items = seeds.generator(seed, "als").normal(0, 0.1, (taken.shape[1], size))
    items[np.diff(by_item.indptr) == 0] = 0  # as they will be solved
    for _ in range(settings.iterations):
        users = _solve(items, taken, l2, confidence)
        items = _solve(users, by_item, l2, confidence)
    return items


def _solve(features: np.ndarray, taken: csr_matrix, l2: float, confidence: float) -> np.ndarray:
    """[N, K]: (F^T F + confidence F_n^T F_n + l2 I)^-1 (1 + confidence) F_n^T 1 for each row n of `taken`
    [N, J], with F all `features` [J, K] and F_n those of the row's columns."""
    base = features.T @ features + l2 * np.eye(features.shape[1])
    return (1 + confidence) * ridge_rows(features, taken, base, confidence)
