"""Item-text tasks, which align names with catalogue texts: name -> text, text -> name, and which item is the
most similar.

After the alignment tasks of LC-Rec (Zheng et al., ICDE 2024); the templates are ours. Made of the catalogue
alone, so that items without any event are learned too. Items without a text are skipped; where titles are the
names, `text.fields` must name other fields. Legend: N samples, I items.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import numpy as np
from pydantic import Field

from shelftalk.data.similarity import nearest_by_text
from shelftalk.ragged import Ragged, hstack, ragged, shuffled, vstack
from shelftalk.records import Segment
from shelftalk.tasks.samples import NOBODY, Samples
from shelftalk.tasks.task import Layout, Task, TaskSettings, singletons

SMALL = 64
"""Up to so many items the whole catalogue is shuffled; beyond, items are drawn and repeats dropped."""


class ItemMeaningSettings(TaskSettings):
    """Names and texts of single items. `max_history` and `text_share` have no effect."""

    weight: float = Field(0.0, ge=0)
    """How much of the task's own epoch, once through the catalogue, goes into one epoch of the mixture; 0
    switches it off."""


class AlikeSettings(ItemMeaningSettings):
    """Questions which of several items is the most similar to a given one."""

    options: int = Field(4, ge=2)
    """Items to choose from: one of the most similar by text, the others uniform over the rest of the
    catalogue."""
    neighbours: int = Field(5, ge=1)
    """How many of the most similar items may be the answer, drawn uniformly."""


class ItemTask(Task):
    """What the three tasks share: an epoch iterates over the catalogue, and items may have a text."""

    about = "items"
    settings: ItemMeaningSettings

    @cached_property
    def texts(self) -> Ragged:
        """[I] the text of each item beside its id, one line as one piece; empty without a text."""
        text, ids = self.context.text, self.context.split.dataset.item_ids
        texts = (", ".join(filter(None, [text.index.words_of(item), text.details(item)])) for item in ids)
        return ragged(self.context.tables.codes([Segment(f"{one}\n")] if one else []) for one in texts)

    @cached_property
    def _ids(self) -> Ragged:
        """[2 I] one line with each item's id alone, then the same bearing loss. The id is the name, without
        the title that names of a mixed index include."""
        index, item_ids = self.context.text.index, self.context.split.dataset.item_ids
        if not index.words:
            return vstack([self.name_lines(np.arange(len(item_ids)), loss) for loss in (False, True)])
        lines = (
            (Segment(index.name(item), loss, index.symbols), Segment("\n"))
            for loss in (False, True)
            for item in item_ids
        )
        return ragged(self.context.tables.codes(line) for line in lines)

    def ids(self, items: np.ndarray, bears_loss: bool) -> Ragged:
        """[N] one line with an id alone."""
        return self._ids.take(items + bears_loss * (len(self._ids) // 2))

    def items_layout(self, number: int, rng: np.random.Generator) -> Layout:
        """Samples without a user, in templates seen in training."""
        layout = self.layout(np.full(number, NOBODY), rng)
        return Layout(layout.user, layout.template, np.ones(number, bool))

    def name_lines(self, items: np.ndarray, bears_loss: bool) -> Ragged:
        """[N] one line with a name alone."""
        return self.context.item_variants("line").take(
            self.context.variant_row(items, np.ones(len(items), bool), bears_loss)
        )


class NameToText(ItemTask):
    """An item's name -> its catalogue text."""

    name: ClassVar[str] = "name_to_text"
    placeholders: ClassVar[tuple[str, ...]] = ("item", "text")
    answers: ClassVar[tuple[str, ...]] = ("text",)
    settings_type: ClassVar[type[TaskSettings]] = ItemMeaningSettings

    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        items = numbers[self.texts.lengths[numbers] > 0]
        layout, text = self.items_layout(len(items), rng), self.texts.take(items)
        source = self.fill("source", layout, item=self.ids(items, False))
        target = self.fill("target", layout, text=Ragged(text.values + 1, text.offsets))
        return self.assemble(layout, singletons(items), source, target)


class TextToName(ItemTask):
    """An item's catalogue text -> its name."""

    name: ClassVar[str] = "text_to_name"
    placeholders: ClassVar[tuple[str, ...]] = ("text", "item")
    answers: ClassVar[tuple[str, ...]] = ("item",)
    settings_type: ClassVar[type[TaskSettings]] = ItemMeaningSettings

    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        items = numbers[self.texts.lengths[numbers] > 0]
        layout = self.items_layout(len(items), rng)
        source = self.fill("source", layout, text=self.texts.take(items))
        target = self.fill("target", layout, item=self.ids(items, True))
        return self.assemble(layout, singletons(items), source, target)


class AlikeItem(ItemTask):
    """An item and several others, all by name -> the one that is the most similar by text."""

    name: ClassVar[str] = "alike_item"
    placeholders: ClassVar[tuple[str, ...]] = ("item", "options", "alike")
    answers: ClassVar[tuple[str, ...]] = ("alike",)
    settings_type: ClassVar[type[TaskSettings]] = AlikeSettings
    settings: AlikeSettings

    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        known = self._neighbours[numbers] >= 0
        items, known = numbers[known.any(axis=1)], known[known.any(axis=1)]
        answers = self._neighbours[items, rng.integers(known.sum(axis=1))]
        options = shuffled(hstack([singletons(answers), self._others(items, rng)]), rng)
        layout = self.items_layout(len(items), rng)
        option_lines = self.name_lines(options.values, False).merge_rows(options.offsets)
        source = self.fill("source", layout, item=self.name_lines(items, False), options=option_lines)
        answer = self.fill("target", layout, alike=self.name_lines(answers, True))
        return self.assemble(layout, hstack([singletons(items), options]), source, answer)

    @cached_property
    def _neighbours(self) -> np.ndarray:
        """[I, neighbours] catalogue rows, -1 after the last."""
        return nearest_by_text(self.context.split.dataset.items, self.settings.neighbours)

    def _others(self, items: np.ndarray, rng: np.random.Generator) -> Ragged:
        """[N] rows of distinct items that are neither the item nor among its nearest; fewer than wanted where
        a small catalogue has no more."""
        total, wanted = len(self._neighbours), self.settings.options - 1
        excluded = np.column_stack([items, self._neighbours[items]])
        if total <= SMALL:
            drawn = np.argsort(rng.random((len(items), total)), axis=1)
        else:
            drawn = rng.integers(total, size=(len(items), 4 * (wanted + excluded.shape[1])))
        # [N, drawn] whether the same item was drawn further left
        again = np.triu((drawn[:, :, None] == drawn[:, None, :]), k=1).any(axis=1)
        free = ~again & ~(drawn[:, :, None] == excluded[:, None, :]).any(axis=2)
        kept = free & (np.cumsum(free, axis=1) <= wanted)
        return Ragged(drawn.ravel(), np.arange(len(items) + 1) * drawn.shape[1]).filter_values(kept.ravel())
