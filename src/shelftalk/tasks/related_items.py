"""What counting knows, in words: an item -> items taken next, items taken by the same people, items with a
similar text.

The retrieval samples hold the same events one history at a time; here each item is asked for what all
histories together say of it, as item-based collaborative filtering counts it (Sarwar et al., WWW 2001). The
first two count training events alone, the last one reads the catalogue alone. Templates and weights are ours.

Legend: I items, N samples, K related items.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from shelftalk.data.similarity import co_occurrence, nearest_by_text, strongest, transition_counts
from shelftalk.ragged import Ragged, hstack, offsets_of
from shelftalk.tasks.item_meaning import ItemMeaningSettings, ItemTask
from shelftalk.tasks.samples import Samples
from shelftalk.tasks.task import TaskSettings, singletons


class RelatedItemsSettings(ItemMeaningSettings):
    """Questions about an item whose answers are other items."""

    answers: int = Field(5, ge=1)
    """Related items in one answer."""
    strongest: int = Field(20, ge=1)
    """An answer is drawn among so many of the most strongly related items, in proportion to how strongly."""


class NextItemsSettings(RelatedItemsSettings):
    """Items taken after an item."""

    within: int = Field(3, ge=1)
    """Steps after the item that count; the n-th counts 1 / n."""


class Relations(NamedTuple):
    """`items` [I, K] int64 catalogue rows and `strength` [I, K] float64, the strongest first; a strength of 0
    is no relation."""

    items: np.ndarray
    strength: np.ndarray


class _RelatedItems(ItemTask):
    """What the tasks share: an answer is drawn among the strongest relations of an item."""

    placeholders: ClassVar[tuple[str, ...]] = ("item", "related")
    answers: ClassVar[tuple[str, ...]] = ("related",)
    settings_type: ClassVar[type[TaskSettings]] = RelatedItemsSettings
    settings: RelatedItemsSettings

    @abstractmethod
    def relations(self) -> Relations:
        """The `settings.strongest` relations of each item."""

    @cached_property
    def _relations(self) -> Relations:
        return self.relations()

    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        strength = self._relations.strength[numbers]
        items, strength = numbers[strength.any(axis=1)], strength[strength.any(axis=1)]
        related = self._drawn(items, strength, rng)
        layout = self.items_layout(len(items), rng)
        lines = self.name_lines(related.values, True).merge_rows(related.offsets)
        source = self.fill("source", layout, item=self.name_lines(items, False))
        target = self.fill("target", layout, related=lines)
        return self.assemble(layout, hstack([singletons(items), related]), source, target)

    def _drawn(self, items: np.ndarray, strength: np.ndarray, rng: np.random.Generator) -> Ragged:
        """[N] rows of distinct related items, each drawn in proportion to its strength among those not drawn
        before it: the largest of log strength plus Gumbel noise (Kool et al., ICML 2019)."""
        with np.errstate(divide="ignore"):
            keys = np.log(strength) + rng.gumbel(size=strength.shape)  # -inf where there is no relation
        order = np.argsort(-keys, axis=1, kind="stable")[:, : self.settings.answers]
        number = np.minimum((strength > 0).sum(axis=1), self.settings.answers)
        drawn = np.take_along_axis(self._relations.items[items], order, axis=1)
        return Ragged(drawn[np.arange(drawn.shape[1]) < number[:, None]], offsets_of(number))


class NextItems(_RelatedItems):
    """An item -> items that were taken after it. Data without an order has no samples."""

    name: ClassVar[str] = "next_items"
    settings_type: ClassVar[type[TaskSettings]] = NextItemsSettings
    settings: NextItemsSettings

    def relations(self) -> Relations:
        split = self.context.split
        if not split.dataset.ordered:
            none = np.zeros((len(split.dataset.items), 1), np.int64)
            return Relations(none, none.astype(np.float64))
        return strongest_relations(transition_counts(split, self.settings.within), self.settings.strongest)


class CoOccurringItems(_RelatedItems):
    """An item -> items that the same people took, at any time."""

    name: ClassVar[str] = "co_occurring_items"

    def relations(self) -> Relations:
        return strongest_relations(co_occurrence(self.context.split), self.settings.strongest)


class SimilarItems(_RelatedItems):
    """An item -> the items whose texts are the most similar, all equally likely; with it an item without any
    event has neighbours too."""

    name: ClassVar[str] = "similar_items"

    def relations(self) -> Relations:
        items = nearest_by_text(self.context.split.dataset.items, self.settings.strongest)
        return Relations(items, (items >= 0).astype(np.float64))


def strongest_relations(relations: csr_matrix, number: int) -> Relations:
    """The `number` largest entries of each row of `relations` [I, I], its own left out; of equal ones the
    first in the catalogue, whose order is a seeded hash."""
    items = np.zeros((relations.shape[0], number), np.int64)
    strength = np.zeros((relations.shape[0], number))
    for row in range(relations.shape[0]):
        start, stop = relations.indptr[row : row + 2]
        columns, values = relations.indices[start:stop], relations.data[start:stop]
        best = strongest(columns, values, number, row)
        items[row, : len(best)], strength[row, : len(best)] = columns[best], values[best]
    return Relations(items, strength)
