"""Item-text tasks, which give names their meaning: name -> text, text -> name, and which of these is most
alike.

After the alignment tasks of LC-Rec (Zheng et al., ICDE 2024); the wordings are ours. Made of the catalogue
alone, so that items which nobody has taken yet get their meaning too. Items without a text are passed over;
where titles are the names, there must be other `text.fields` to tell of. Legend: N samples, I items.
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
from shelftalk.tasks.task import Frame, Task, TaskSettings, one_each

SMALL = 64
"""A catalogue of so few items is shuffled as a whole; of more, items are drawn and repeats left out."""


class ItemMeaningSettings(TaskSettings):
    """Names and texts of single items. `max_history` and `text_share` are of no account."""

    weight: float = Field(0.0, ge=0)
    """How much of the task's own epoch, once through the catalogue, goes into one epoch of the mixture; 0
    switches it off."""


class AlikeSettings(ItemMeaningSettings):
    """Questions which of some items is most alike to another."""

    options: int = Field(4, ge=2)
    """Items to choose from: one of those most alike by text, the others uniform over the rest of the
    catalogue."""
    neighbours: int = Field(5, ge=1)
    """How many of the most alike items may be the answer, each by chance."""


class _ItemTask(Task):
    """What the three share: they go through the catalogue, and know which items have a text."""

    about = "items"
    settings: ItemMeaningSettings

    @cached_property
    def texts(self) -> Ragged:
        """[I] what is said of an item beside its id, on one line, as a piece; empty where the catalogue knows
        nothing."""
        text, ids = self.context.text, self.context.split.dataset.item_ids
        said = (", ".join(filter(None, [text.index.words_of(item), text.beside(item)])) for item in ids)
        return ragged(self.context.tables.codes([Segment(f"{one}\n")] if one else []) for one in said)

    @cached_property
    def _ids(self) -> Ragged:
        """[2 I] one line with an item's id alone, then those that bear loss: the name, without the title that
        a mixed one says too."""
        index, item_ids = self.context.text.index, self.context.split.dataset.item_ids
        if not index.words:
            return vstack([self.bare_lines(np.arange(len(item_ids)), loss) for loss in (False, True)])
        lines = (
            (Segment(index.name(item), loss, index.symbols), Segment("\n"))
            for loss in (False, True)
            for item in item_ids
        )
        return ragged(self.context.tables.codes(line) for line in lines)

    def ids(self, items: np.ndarray, bears_loss: bool) -> Ragged:
        """[N] one line with an id alone."""
        return self._ids.take(items + bears_loss * (len(self._ids) // 2))

    def items_frame(self, number: int, draw: np.random.Generator) -> Frame:
        """Samples about nobody, in wordings seen in training."""
        frame = self.frame(np.full(number, NOBODY), draw)
        return Frame(frame.user, frame.wording, np.ones(number, bool))

    def bare_lines(self, items: np.ndarray, bears_loss: bool) -> Ragged:
        """[N] one line with a name alone."""
        return self.context.forms("line").take(
            self.context.form_row(items, np.ones(len(items), bool), bears_loss)
        )


class NameToText(_ItemTask):
    """An item's name -> what the catalogue says of it."""

    name: ClassVar[str] = "name_to_text"
    placeholders: ClassVar[tuple[str, ...]] = ("item", "text")
    answers: ClassVar[tuple[str, ...]] = ("text",)
    settings_type: ClassVar[type[TaskSettings]] = ItemMeaningSettings

    def epoch(self, numbers: np.ndarray, draw: np.random.Generator) -> Samples:
        items = numbers[self.texts.lengths[numbers] > 0]
        frame, text = self.items_frame(len(items), draw), self.texts.take(items)
        source = self.fill("source", frame, item=self.ids(items, False))
        return self.made(
            frame,
            one_each(items),
            source,
            self.fill("target", frame, text=Ragged(text.values + 1, text.offsets)),
        )


class TextToName(_ItemTask):
    """What the catalogue says of an item -> its name."""

    name: ClassVar[str] = "text_to_name"
    placeholders: ClassVar[tuple[str, ...]] = ("text", "item")
    answers: ClassVar[tuple[str, ...]] = ("item",)
    settings_type: ClassVar[type[TaskSettings]] = ItemMeaningSettings

    def epoch(self, numbers: np.ndarray, draw: np.random.Generator) -> Samples:
        items = numbers[self.texts.lengths[numbers] > 0]
        frame = self.items_frame(len(items), draw)
        source = self.fill("source", frame, text=self.texts.take(items))
        return self.made(
            frame, one_each(items), source, self.fill("target", frame, item=self.ids(items, True))
        )


class AlikeItem(_ItemTask):
    """An item and some others, all by name -> the one that is most alike by text."""

    name: ClassVar[str] = "alike_item"
    placeholders: ClassVar[tuple[str, ...]] = ("item", "options", "alike")
    answers: ClassVar[tuple[str, ...]] = ("alike",)
    settings_type: ClassVar[type[TaskSettings]] = AlikeSettings
    settings: AlikeSettings

    def epoch(self, numbers: np.ndarray, draw: np.random.Generator) -> Samples:
        known = self._neighbours[numbers] >= 0
        items, known = numbers[known.any(axis=1)], known[known.any(axis=1)]
        alike = self._neighbours[items, draw.integers(known.sum(axis=1))]
        options = shuffled(hstack([one_each(alike), self._others(items, draw)]), draw)
        frame = self.items_frame(len(items), draw)
        shown = self.bare_lines(options.values, False).merge_rows(options.offsets)
        source = self.fill("source", frame, item=self.bare_lines(items, False), options=shown)
        answer = self.fill("target", frame, alike=self.bare_lines(alike, True))
        return self.made(frame, hstack([one_each(items), options]), source, answer)

    @cached_property
    def _neighbours(self) -> np.ndarray:
        """[I, neighbours] catalogue rows, -1 behind the last."""
        return nearest_by_text(self.context.split.dataset.items, self.settings.neighbours)

    def _others(self, items: np.ndarray, draw: np.random.Generator) -> Ragged:
        """[N] rows of distinct items that are neither the item nor among its nearest; all there are in a
        catalogue of few."""
        total, wanted = len(self._neighbours), self.settings.options - 1
        barred = np.column_stack([items, self._neighbours[items]])
        if total <= SMALL:
            drawn = np.argsort(draw.random((len(items), total)), axis=1)
        else:
            drawn = draw.integers(total, size=(len(items), 4 * (wanted + barred.shape[1])))
        again = np.triu((drawn[:, :, None] == drawn[:, None, :]), k=1).any(
            axis=1
        )  # stands further left already
        free = ~again & ~(drawn[:, :, None] == barred[:, None, :]).any(axis=2)
        kept = free & (np.cumsum(free, axis=1) <= wanted)
        return Ragged(drawn.ravel(), np.arange(len(items) + 1) * drawn.shape[1]).filter_values(kept.ravel())
