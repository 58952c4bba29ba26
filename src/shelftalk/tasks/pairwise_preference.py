"""BPR: a history, one item that the user took afterwards and one that they did not; the model says which one they prefer.

Bayesian personalised ranking (Rendle et al., UAI 2009) said in words, after Cao et al. (NAACL Findings 2024).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from shelftalk.records import Sample, Segment
from shelftalk.tasks.item_text import ItemText
from shelftalk.tasks.negatives import Negatives
from shelftalk.tasks.task import Task, TaskContext, TaskSettings, windows
from shelftalk.tasks.templates import Template, fill


class PairwisePreferenceSettings(TaskSettings):
    """Preferences between two items."""

    weight: float = Field(0.25, ge=0)
    """How much of the task's own epoch goes into one epoch of the mixture; 0 switches it off."""
    text_share: float = Field(0.3, ge=0, le=1)
    """Share of the training samples that show items' texts beside their names."""
    max_history: int = Field(16, ge=1)
    """Items shown before the questions."""
    questions: int = Field(4, ge=1)
    """Questions asked of one history, about the items that follow it."""


class PairwisePreference(Task):
    """Windows of the training histories, each with questions about the items that come next."""

    name: ClassVar[str] = "pairwise_preference"
    placeholders: ClassVar[tuple[str, ...]] = ("history", "first", "second", "preferred")
    settings_type: ClassVar[type[TaskSettings]] = PairwisePreferenceSettings
    settings: PairwisePreferenceSettings

    def __init__(self, settings: PairwisePreferenceSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.negatives = Negatives(context.split)

    def epoch(self, draw: np.random.Generator) -> Iterator[Sample]:
        size = self.settings.max_history + self.settings.questions
        for user, items in enumerate(self.context.histories):
            for start, stop in windows(len(items), size, draw):
                taken = min(self.settings.questions, max(1, (stop - start) // 2))
                positives = items[stop - taken : stop]
                negatives = self.negatives.draw(user, taken, draw)
                flips = (draw.random(taken) < 0.5).tolist()
                pairs = list(zip(positives, negatives, flips, strict=False))
                user_id = self.context.split.dataset.user_ids[user]
                wording, text = self.choose(draw), self.choose_text(draw)
                yield self._sample(wording, text, user_id, items[start : stop - taken], pairs)

    def _sample(
        self, template: Template, text: ItemText, user: str, history: Sequence[str], pairs: Sequence[tuple[str, str, bool]]
    ) -> Sample:
        segments, items = fill(template.source, self.values(history=text.lines(history))), [*history]
        for positive, negative, flipped in pairs:
            first, second = (negative, positive) if flipped else (positive, negative)
            segments += self._question(template, text, first, second, positive)
            items += [first, second]
        return Sample(self.name, template.name, user, tuple(items), tuple(segments))

    def _question(self, template: Template, text: ItemText, first: str, second: str, preferred: str) -> list[Segment]:
        options = self.values(first=text.line(first), second=text.line(second))
        answer = self.values(preferred=text.line(preferred, bears_loss=True))
        return fill(template.question, options) + fill(template.target, answer)
