"""MIM, masked item modelling: some items of a history are masked, and the model names them.

The operation of BERT4Rec (Sun et al., CIKM 2019) as text, after Cao et al. (NAACL Findings 2024); the
templates and the masking share are ours.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from shelftalk.ragged import hstack, ragged, sample_mask, vstack
from shelftalk.records import Segment
from shelftalk.tasks.samples import Samples
from shelftalk.tasks.sentinels import SENTINELS, sentinel
from shelftalk.tasks.task import Task, TaskSettings, singletons
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

    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        owner, start, stop, _ = windows(self.training_bounds(numbers), self.settings.max_history, rng)
        several = stop - start > 1  # a single item has no context to be inferred from
        items = self.events(start[several], stop[several])
        layout = self.layout(numbers[owner[several]], rng)
        number = np.clip(np.round(items.lengths * self.settings.share), 1, self.settings.max_masked)
        masked = sample_mask(items.lengths, np.minimum(number, items.lengths - 1).astype(np.int64), rng)
        sentinels = ragged(self.context.tables.codes([sentinel(position)]) for position in range(SENTINELS))
        before = np.concatenate([[0], np.cumsum(masked)])
        # the sentinel of each masked item: 0, 1, 2 ... within its window
        number = (before[:-1] - np.repeat(before[items.offsets[:-1]], items.lengths))[masked]

        lines = self.context.item_variants("line")
        names_only = np.repeat(layout.names_only, items.lengths)
        rows = self.context.variant_row(items.values, names_only, False)
        rows[masked] = len(lines) + number
        line_break = np.full(SENTINELS, self.context.tables.code(Segment("\n")))
        sentinel_lines = hstack([sentinels, singletons(line_break)])
        history = vstack([lines, sentinel_lines]).take(rows).merge_rows(items.offsets)
        masked_lines = lines.take(self.context.variant_row(items.values[masked], names_only[masked], True))
        answers = hstack([sentinels.take(number), masked_lines]).merge_rows(before[items.offsets])
        source = self.fill("source", layout, masked_history=history)
        return self.assemble(layout, items, source, self.fill("target", layout, masked=answers))
