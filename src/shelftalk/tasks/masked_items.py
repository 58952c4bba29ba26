"""MIM, masked item modelling: some items of a history are masked, and the model names them.

The operation of BERT4Rec (Sun et al., CIKM 2019) said in words, after Cao et al. (NAACL Findings 2024); the wording and the
masking share are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from shelftalk.records import Sample, Segment
from shelftalk.tasks.item_text import ItemText
from shelftalk.tasks.marks import MARKS, mark
from shelftalk.tasks.task import Task, TaskSettings, windows
from shelftalk.tasks.templates import Template, fill


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


class MaskedItems(Task):
    """Windows of the training histories with some items masked."""

    name: ClassVar[str] = "masked_items"
    placeholders: ClassVar[tuple[str, ...]] = ("masked_history", "masked")
    settings_type: ClassVar[type[TaskSettings]] = MaskedItemsSettings
    settings: MaskedItemsSettings

    def epoch(self, draw: np.random.Generator) -> Iterator[Sample]:
        for user, items in enumerate(self.context.histories):
            for start, stop in windows(len(items), self.settings.max_history, draw):
                number = min(MARKS, max(1, round((stop - start) * self.settings.share)))
                masked = set(draw.permutation(stop - start)[:number].tolist())
                wording, text, user_id = self.choose(draw), self.choose_text(draw), self.context.split.dataset.user_ids[user]
                yield self._sample(wording, text, user_id, items[start:stop], masked)

    def _sample(self, template: Template, text: ItemText, user: str, items: Sequence[str], masked: set[int]) -> Sample:
        shown: list[Segment] = []
        hidden: list[Segment] = []
        for place, item in enumerate(items):
            if place not in masked:
                shown += text.line(item)
                continue
            sign = mark(sum(other < place for other in masked))
            shown += [sign, Segment("\n")]
            hidden += [sign, *text.line(item, bears_loss=True)]
        segments = fill(template.source, self.values(masked_history=shown))
        segments += fill(template.target, self.values(masked=hidden))
        return Sample(self.name, template.name, user, tuple(items), tuple(segments))
