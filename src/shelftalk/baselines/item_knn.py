"""item_knn: the items most similar to the last few of the history, by text and co-occurrence.
Nothing is trained.

    similarity(i, j) = w text(i, j) + (1 - w) co_occurrence(i, j)
    score(j)         = sum over the last n history items i, age 0 the latest: decay^age similarity(i, j)

In the spirit of STAR (Lee et al., arXiv 2410.16458). The three settings w, decay and n are
chosen on validation.

Legend: R requests, I items, F text features, V validation users.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from shelftalk.baselines.scored_catalogue import ItemScorer, ScoredCatalogue, scored_catalogue
from shelftalk.baselines.validation import VALIDATION_USERS, ndcg_sum, validation_sample
from shelftalk.data.similarity import COUNTED_EVENTS, co_occurrence, not_counted, text_vectors
from shelftalk.data.splitting import Split
from shelftalk.records import Request
from shelftalk.settings import Settings

Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0, le=1)]
Length = Annotated[int, Field(ge=1)]


class ItemKnnSettings(Settings):
    """What item_knn tries on validation; one value each fixes the recipe."""

    text_weight: tuple[Share, ...] = Field((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0), min_length=1)
    """Shares of the text similarity to try, each from 0 to 1; co-occurrence has the rest."""
    decay: tuple[Factor, ...] = Field((0.5, 0.7, 0.9), min_length=1)
    """Factors per step of age to try, each above 0 and up to 1."""
    max_history: tuple[Length, ...] = Field((3, 5, 10, 20), min_length=1)
    """Numbers of most recent history items to try."""
    co_occurrence_events: int = Field(COUNTED_EVENTS, ge=1)
    """Most recent training events of one user that count in co-occurrence; its memory is their square."""
    validation_users: int = Field(VALIDATION_USERS, ge=1)
    """Validation users at most, drawn by seed; with more of them the choice varies less and takes longer."""


class Recipe(NamedTuple):
    """The weights of one item_knn."""

    text_weight: float
    decay: float
    max_history: int


@dataclass(frozen=True, eq=False)
class ItemKnn(ItemScorer):
    """`text` [I, F] and `co_occurrence` [I, I] in catalogue order, and the best recipe on validation.

    Equal scores (all of them for an empty history) are in the order of popularity, see ScoredCatalogue.
    """

    catalogue: ScoredCatalogue
    text: csr_matrix
    co_occurrence: csr_matrix
    recipe: Recipe
    validation_ndcg: float
    ordered: bool = True
    """Whether histories have an order."""
    not_counted: tuple[str, ...] = ()
    """A sentence where co-occurrence counts only a part of long histories."""
    name: str = "item_knn"

    def describe(self) -> dict[str, float]:
        """What was chosen on validation, and the NDCG@10 that it reached there."""
        return {**self.recipe._asdict(), "validation ndcg@10": self.validation_ndcg}

    def selection(self) -> list[str]:
        """What was chosen on validation, as a sentence, after what was not counted."""
        weight, decay, length = self.recipe
        history = f"decay {decay:g} over the last {length} items" if self.ordered else "all items alike"
        chosen = (
            f"{self.name}: text weight {weight:g}, {history} (validation ndcg@10 {self.validation_ndcg:.4f})."
        )
        return [*self.not_counted, chosen]

    def item_scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] float32, 0 for items with no similarity to the history, which is not excluded itself.

        The result takes 4 R I bytes: score in batches. Raises UnknownItem for an id outside the
        catalogue.
        """
        scores = np.empty((len(requests), len(self.catalogue.item_ids)), np.float32)
        start = 0
        for batch in self.catalogue.batches(requests):
            weights = history_weights(batch, self.catalogue, self.recipe.decay, self.recipe.max_history)
            parts = text_scores(weights, self.text), co_occurrence_scores(weights, self.co_occurrence)
            scores[start : start + len(batch)] = mix(*parts, self.recipe.text_weight)
            start += len(batch)
        return scores


def history_weights(
    requests: Sequence[Request], catalogue: ScoredCatalogue, decay: float, max_history: int
) -> csr_matrix:
    """[R, I] float32: decay^age of the last `max_history` items of each history, age 0 the latest."""
    # latest first
    rows = [catalogue.rows(request.history[-max_history:], request.user)[::-1] for request in requests]
    lengths = [len(row) for row in rows]
    columns = np.array([column for row in rows for column in row], np.int64)
    powers = decay ** np.arange(max(lengths, default=0))
    values = np.concatenate([powers[:length] for length in lengths]) if lengths else powers
    request_rows = np.repeat(np.arange(len(rows)), lengths)
    shape = (len(rows), len(catalogue.item_ids))
    return csr_matrix((values.astype(np.float32), (request_rows, columns)), shape)


def text_scores(weights: csr_matrix, text: csr_matrix) -> np.ndarray:
    """[R, I] float32: weights text text^T, without the [I, I] product and over the features of
    these histories only."""
    profiles = csr_matrix(weights @ text)  # [R, F]
    features = np.unique(profiles.indices)
    return np.ascontiguousarray((text[:, features] @ profiles[:, features].T.toarray()).T)


def co_occurrence_scores(weights: csr_matrix, counts: csr_matrix) -> np.ndarray:
    """[R, I] float32: weights counts."""
    return (weights @ counts).toarray()


def mix(text: np.ndarray, co_occurrence: np.ndarray, text_weight: float) -> np.ndarray:
    """[R, I] float32: w text + (1 - w) co_occurrence."""
    return np.float32(text_weight) * text + np.float32(1.0 - text_weight) * co_occurrence


def fit_item_knn(split: Split, settings: ItemKnnSettings, seed: int) -> ItemKnn:
    """Measure both similarities on the training part and choose the recipe by NDCG@10 on validation,
    over all items.

    Of equally good recipes the first is taken, in the order of the settings. Where histories have no order,
    all their items count alike and only the text weight is chosen.
    """
    longest = max(1, int(np.diff(split.dataset.bounds).max()))
    windows = [*product(settings.max_history, settings.decay)] if split.dataset.ordered else [(longest, 1.0)]
    catalogue, text = scored_catalogue(split), text_vectors(split.dataset.items)
    counts = co_occurrence(split, settings.co_occurrence_events)
    requests, truths = validation_sample(split, settings.validation_users, seed, "item_knn")
    totals: dict[Recipe, float] = defaultdict(float)
    start = 0
    for batch in catalogue.batches(requests):
        targets = catalogue.rows(truths[start : start + len(batch)], "")
        seen = [catalogue.rows(request.history, request.user) for request in batch]
        start += len(batch)
        for max_history, decay in windows:
            weights = history_weights(batch, catalogue, decay, max_history)
            parts = text_scores(weights, text), co_occurrence_scores(weights, counts)
            for share in settings.text_weight:
                totals[Recipe(share, decay, max_history)] += ndcg_sum(mix(*parts, share), seen, targets)
    best = max(totals, key=totals.__getitem__)
    left_out = not_counted(split, settings.co_occurrence_events, "baselines.item_knn.co_occurrence_events")
    ndcg = totals[best] / len(requests)
    return ItemKnn(catalogue, text, counts, best, ndcg, split.dataset.ordered, tuple(left_out))
