"""Items similar by text, and items linked by who took both, as one score per item: what item_knn and
transition_graph share.

    similarity(i, j) = w text(i, j) + (1 - w) link(i, j)
    score(j)         = sum over the last n history items i, age 0 the latest: decay^age similarity(i, j)

The three settings w, decay and n are chosen on validation.

Legend: R requests, I items, F text features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from shelftalk.baselines.histories import history_weights
from shelftalk.baselines.scored_catalogue import ItemScorer, ScoredCatalogue
from shelftalk.baselines.validation import (
    VALIDATION_USERS,
    Choice,
    Chosen,
    choose,
    ndcg_sum,
    validation_sample,
    variants,
)
from shelftalk.data.splitting import Split
from shelftalk.records import Request
from shelftalk.settings import Settings

Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0, le=1)]
Length = Annotated[int, Field(ge=1)]


class TextAndLinksSettings(Settings):
    """What is tried on validation; one value each fixes the recipe."""

    text_weight: tuple[Share, ...] = Field((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0), min_length=1)
    """Shares of the text similarity to try, each from 0 to 1; co-occurrence has the rest."""
    decay: tuple[Factor, ...] = Field((0.5, 0.7, 0.9), min_length=1)
    """Factors per step of age to try, each above 0 and up to 1."""
    max_history: tuple[Length, ...] = Field((3, 5, 10, 20), min_length=1)
    """Numbers of most recent history items to try."""
    validation_users: int = Field(VALIDATION_USERS, ge=1)
    """Validation users at most, drawn by seed; with more of them the choice varies less and takes longer."""


class Recipe(NamedTuple):
    """The weights of one such model."""

    text_weight: float
    decay: float
    max_history: int


@dataclass(frozen=True, eq=False)
class TextAndLinks(Chosen, ItemScorer):
    """`text` [I, F] and `links` [I, I] in catalogue order, and the best recipe on validation.

    Equal scores (all of them for an empty history) are in the order of popularity, see ScoredCatalogue.
    """

    catalogue: ScoredCatalogue
    text: csr_matrix
    links: csr_matrix
    recipe: Recipe
    choice: Choice[TextAndLinksSettings]
    ordered: bool = True
    """Whether histories have an order."""
    notes: tuple[str, ...] = ()
    name: str = "text_and_links"

    def chosen_words(self) -> str:
        """The recipe in words."""
        weight, decay, length = self.recipe
        history = f"decay {decay:g} over the last {length} items" if self.ordered else "all items alike"
        return f"text weight {weight:g}, {history}"

    def item_scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] float32, 0 for items with no similarity to the history, which is not excluded itself.

        The result takes 4 R I bytes: score in batches. Raises UnknownItem for an id outside the
        catalogue.
        """
        scores = np.empty((len(requests), len(self.catalogue.item_ids)), np.float32)
        start = 0
        for batch in self.catalogue.batches(requests):
            weights = history_weights(batch, self.catalogue, self.recipe.decay, self.recipe.max_history)
            parts = text_scores(weights, self.text), link_scores(weights, self.links)
            scores[start : start + len(batch)] = mix(*parts, self.recipe.text_weight)
            start += len(batch)
        return scores


def text_scores(weights: csr_matrix, text: csr_matrix) -> np.ndarray:
    """[R, I] float32: weights text text^T, without the [I, I] product and over the features of
    these histories only."""
    profiles = csr_matrix(weights @ text)  # [R, F]
    features = np.unique(profiles.indices)
    return np.ascontiguousarray((text[:, features] @ profiles[:, features].T.toarray()).T)


def link_scores(weights: csr_matrix, links: csr_matrix) -> np.ndarray:
    """[R, I] float32: weights links."""
    result: np.ndarray = (weights @ links).toarray()
    return result


def mix(text: np.ndarray, links: np.ndarray, text_weight: float) -> np.ndarray:
    """[R, I] float32: w text + (1 - w) links."""
    return np.float32(text_weight) * text + np.float32(1.0 - text_weight) * links


def choose_recipe(
    split: Split,
    catalogue: ScoredCatalogue,
    text: csr_matrix,
    links: csr_matrix,
    settings: TextAndLinksSettings,
    seed: int,
    model: str,
) -> tuple[Recipe, Choice[TextAndLinksSettings]]:
    """The recipe with the best NDCG@10 on validation, over all items; of equally good ones the first, in the
    order of the settings. Where histories have no order, all their items count alike and only the text weight
    is chosen."""
    if not split.dataset.ordered:
        longest = max(1, int(np.diff(split.dataset.bounds).max()))
        settings = settings.model_copy(update={"max_history": (longest,), "decay": (1.0,)})
    names = Recipe._fields
    requests, truths = validation_sample(split, settings.validation_users, seed, model)
    totals = dict.fromkeys(variants(settings, *names[::-1]), 0.0)
    start = 0
    for batch in catalogue.batches(requests):
        targets = catalogue.rows(truths[start : start + len(batch)], "")
        seen = [catalogue.rows(request.history, request.user) for request in batch]
        start += len(batch)
        for window in variants(settings, "max_history", "decay"):
            weights = history_weights(batch, catalogue, window.decay[0], window.max_history[0])
            parts = text_scores(weights, text), link_scores(weights, links)
            for variant in variants(window, "text_weight"):
                totals[variant] += ndcg_sum(mix(*parts, variant.text_weight[0]), seen, targets)
    means = {variant: total / len(requests) if requests else nan for variant, total in totals.items()}
    choice = choose(model, names, means, "ndcg@10")
    return Recipe(*choice.chosen().values()), choice  # type: ignore[arg-type]
