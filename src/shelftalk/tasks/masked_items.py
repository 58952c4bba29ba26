"""MIM, masked item modelling: some items of a history are masked, and the model names them.

The operation of BERT4Rec (Sun et al., CIKM 2019) said in words, after Cao et al. (NAACL Findings 2024); the
wording and the masking share are ours.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from shelftalk.ragged import hstack, ragged, sample_mask, vstack
from shelftalk.records import Segment
from shelftalk.tasks.samples import Samples
from shelftalk.tasks.sentinels import SENTINELS, sentinel
from shelftalk.tasks.task import Task, TaskSettings, one_each
from shelftalk.tasks.windows import windows


class MaskedItemsSettings(TaskSettings):
    """Masked items."""

    weight: float = Field(0.5, ge=0)
    """How much of the task's own epoch goes into one epoch of the mixture; 0 switches it off."""
    text_share: float = Field(0.3, ge=0, le=1)
    """Share of the training samples that show items' texts beside their names."""
    max_history: int = Field(20, ge=2)
    """Items in a window."""
    share: float = Field(0.2, gt=0, lt=1)
    """Share of a window's items that are masked, at least one."""
    max_masked: int = Field(SENTINELS, ge=1, le=SENTINELS)
    """Most items masked in one window; 1 masks a single item whatever the share."""


class MaskedItems(Task):
    """Windows of the training histories with some items masked."""

    name: ClassVar[str] = "masked_items"
    placeholders: ClassVar[tuple[str, ...]] = ("masked_history", "masked")
    answers: ClassVar[tuple[str, ...]] = ("masked",)
    settings_type: ClassVar[type[TaskSettings]] = MaskedItemsSettings
    settings: MaskedItemsSettings

    def epoch(self, numbers: np.ndarray, draw: np.random.Generator) -> Samples:
        owner, start, stop, _ = windows(self.training_bounds(numbers), self.settings.max_history, draw)
        some = stop - start > 1  # an item alone has nothing to be told by
        items, frame = self.events(start[some], stop[some]), self.frame(numbers[owner[some]], draw)
        number = np.clip(np.round(items.lengths * self.settings.share), 1, self.settings.max_masked)
        masked = sample_mask(items.lengths, np.minimum(number, items.lengths - 1).astype(np.int64), draw)
        sentinels = ragged(self.context.tables.codes([sentinel(position)]) for position in range(SENTINELS))
        before = np.concatenate([[0], np.cumsum(masked)])
        sign = (before[:-1] - np.repeat(before[items.offsets[:-1]], items.lengths))[
            masked
        ]  # the how-manieth of its window

        bare = np.repeat(frame.bare, items.lengths)
        shown = self.context.form_row(items.values, bare, False)
        shown[masked] = len(self.context.forms("line")) + sign
        ends = hstack([sentinels, one_each(np.full(SENTINELS, self.context.tables.code(Segment("\n"))))])
        history = vstack([self.context.forms("line"), ends]).take(shown).merge_rows(items.offsets)
        said = self.context.forms("line").take(
            self.context.form_row(items.values[masked], bare[masked], True)
        )
        hidden = hstack([sentinels.take(sign), said]).merge_rows(before[items.offsets])
        source = self.fill("source", frame, masked_history=history)
        return self.made(frame, items, source, self.fill("target", frame, masked=hidden))
