"""item_knn: the items most similar to the last few of the history, by text and co-occurrence.
Nothing is trained.

    similarity(i, j) = w text(i, j) + (1 - w) co_occurrence(i, j)
    score(j)         = sum over the last n history items i, age 0 the latest: decay^age similarity(i, j)

In the spirit of STAR (Lee et al., arXiv 2410.16458). The three settings w, decay and n are
chosen on validation.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from shelftalk.baselines.scored_catalogue import scored_catalogue
from shelftalk.baselines.text_and_links import TextAndLinks, TextAndLinksSettings, choose_recipe
from shelftalk.data.similarity import COUNTED_EVENTS, co_occurrence, not_counted, text_vectors
from shelftalk.data.splitting import Split


class ItemKnnSettings(TextAndLinksSettings):
    """What item_knn tries on validation; one value each fixes the recipe."""

    co_occurrence_events: int = Field(COUNTED_EVENTS, ge=1)
    """Most recent training events of one user that count in co-occurrence; its memory is their square."""


@dataclass(frozen=True, eq=False)
class ItemKnn(TextAndLinks):
    """Text and co-occurrence; `links` is the cosine of items by their training users."""

    name: str = "item_knn"


def fit_item_knn(split: Split, settings: ItemKnnSettings, seed: int) -> ItemKnn:
    """Measure both similarities on the training part and choose the recipe on validation (see
    `choose_recipe`)."""
    catalogue, text = scored_catalogue(split), text_vectors(split.dataset.items)
    counts = co_occurrence(split, settings.co_occurrence_events)
    recipe, choice = choose_recipe(split, catalogue, text, counts, settings, seed, "item_knn")
    left_out = not_counted(split, settings.co_occurrence_events, "baselines.item_knn.co_occurrence_events")
    return ItemKnn(catalogue, text, counts, recipe, choice, split.dataset.ordered, tuple(left_out))
