"""BPR: a history, one item that the user took afterwards and one that they did not; the model says which one
they prefer.

Bayesian personalised ranking (Rendle et al., UAI 2009) said in words, after Cao et al. (NAACL Findings 2024).
Legend: N samples, Q questions of all samples together.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from shelftalk.ragged import Ragged, hstack
from shelftalk.tasks.negatives import Kind, Negatives
from shelftalk.tasks.samples import Samples
from shelftalk.tasks.task import Frame, Task, TaskContext, TaskSettings, one_each
from shelftalk.tasks.windows import windows


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
    negatives: tuple[Kind, ...] = Field(("uniform",), min_length=1)
    """Where the items not taken come from, each drawing one of these by chance: "uniform", "popular" (in
    proportion to training events), "category" (the taken item's own) or "neighbour" (most alike to the taken
    item by text)."""


class PairwisePreference(Task):
    """Windows of the training histories, each with questions about the items that come next."""

    name: ClassVar[str] = "pairwise_preference"
    speaks_of_order: ClassVar[bool] = True
    placeholders: ClassVar[tuple[str, ...]] = ("history", "first", "second", "preferred")
    answers: ClassVar[tuple[str, ...]] = ("preferred",)
    questions: ClassVar[tuple[str, ...]] = ("first", "second")
    settings_type: ClassVar[type[TaskSettings]] = PairwisePreferenceSettings
    settings: PairwisePreferenceSettings

    def __init__(self, settings: PairwisePreferenceSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.negatives = Negatives(context.split, settings.negatives)

    def epoch(self, numbers: np.ndarray, draw: np.random.Generator) -> Samples:
        size = self.settings.max_history + self.settings.questions
        owner, start, stop, _ = windows(self.training_bounds(numbers), size, draw)
        frame = self.frame(numbers[owner], draw)
        asked = np.clip((stop - start) // 2, 1, self.settings.questions)
        asked = self.negatives.most(frame.user, asked)
        positives = self.events(stop - asked, stop)
        negatives = self.negatives.draw(frame.user, asked, positives.values, draw)
        flipped = draw.random(len(positives.values)) < 0.5
        first = np.where(flipped, negatives.values, positives.values)
        second = np.where(flipped, positives.values, negatives.values)
        return self._samples(frame, self.events(start, stop - asked), positives, first, second)

    def _samples(
        self, frame: Frame, history: Ragged, preferred: Ragged, first: np.ndarray, second: np.ndarray
    ) -> Samples:
        """`preferred` [N] rows of all Q answers, `first` and `second` [Q] the options in the order in which
        they stand."""
        of = preferred.row_ids
        each = Frame(frame.user[of], frame.wording[of], frame.bare[of])
        lines = self.context.forms("line")
        first_row, second_row = (self.context.form_row(items, each.bare, False) for items in (first, second))
        question = self.fill("question", each, first=lines.take(first_row), second=lines.take(second_row))
        said = lines.take(self.context.form_row(preferred.values, each.bare, True))
        asked = hstack([question, self.fill("target", each, preferred=said)]).merge_rows(preferred.offsets)
        options = hstack([one_each(first), one_each(second)]).merge_rows(preferred.offsets)
        source = self.fill("source", frame, history=self.lines(history, frame.bare))
        return self.made(frame, hstack([history, options]), source, asked)
