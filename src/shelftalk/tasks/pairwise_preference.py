"""BPR: a history, one item that the user took afterwards and one that they did not; the model names the
preferred one.

Bayesian personalised ranking (Rendle et al., UAI 2009) as text, after Cao et al. (NAACL Findings 2024).
Legend: N samples, Q questions of all samples together.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from shelftalk.ragged import Ragged, hstack
from shelftalk.tasks.negatives import Kind, Negatives
from shelftalk.tasks.samples import Samples
from shelftalk.tasks.task import Layout, Task, TaskContext, TaskSettings, singletons
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
    """Questions after one history, about the items that follow it."""
    negatives: tuple[Kind, ...] = Field(("uniform",), min_length=1)
    """Where the items not taken come from, one of these at random for each: "uniform", "popular" (in
    proportion to training events), "category" (the taken item's own) or "neighbour" (most similar to the
    taken item by text)."""


class PairwisePreference(Task):
    """Windows of the training histories, each with questions about the items that come next."""

    name: ClassVar[str] = "pairwise_preference"
    mentions_order: ClassVar[bool] = True
    placeholders: ClassVar[tuple[str, ...]] = ("history", "first", "second", "preferred")
    answers: ClassVar[tuple[str, ...]] = ("preferred",)
    questions: ClassVar[tuple[str, ...]] = ("first", "second")
    settings_type: ClassVar[type[TaskSettings]] = PairwisePreferenceSettings
    settings: PairwisePreferenceSettings

    def __init__(self, settings: PairwisePreferenceSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.negatives = Negatives(context.split, settings.negatives)

    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        size = self.settings.max_history + self.settings.questions
        owner, start, stop, _ = windows(self.training_bounds(numbers), size, rng)
        layout = self.layout(numbers[owner], rng)
        number = np.clip((stop - start) // 2, 1, self.settings.questions)  # [N] questions of each sample
        number = self.negatives.available(layout.user, number)
        positives = self.events(stop - number, stop)
        negatives = self.negatives.draw(layout.user, number, positives.values, rng)
        flipped = rng.random(len(positives.values)) < 0.5
        first = np.where(flipped, negatives.values, positives.values)
        second = np.where(flipped, positives.values, negatives.values)
        return self._samples(layout, self.events(start, stop - number), positives, first, second)

    def _samples(
        self, layout: Layout, history: Ragged, preferred: Ragged, first: np.ndarray, second: np.ndarray
    ) -> Samples:
        """`preferred` [N] rows of all Q answers, `first` and `second` [Q] the options in the order in which
        they are shown."""
        of = preferred.row_ids
        each = Layout(layout.user[of], layout.template[of], layout.names_only[of])
        lines, row = self.context.item_variants("line"), self.context.variant_row
        first_line, second_line = (
            lines.take(row(items, each.names_only, False)) for items in (first, second)
        )
        answer = lines.take(row(preferred.values, each.names_only, True))
        question = self.fill("question", each, first=first_line, second=second_line)
        target = self.fill("target", each, preferred=answer)
        questions = hstack([question, target]).merge_rows(preferred.offsets)
        options = hstack([singletons(first), singletons(second)]).merge_rows(preferred.offsets)
        source = self.fill("source", layout, history=self.lines(history, layout.names_only))
        return self.assemble(layout, hstack([history, options]), source, questions)
