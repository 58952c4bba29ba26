"""Ranking: history and candidates -> the candidate that the user takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from shelftalk.ragged import Ragged, hstack, sample_mask, shuffled
from shelftalk.records import Request
from shelftalk.tasks.negatives import Kind, Negatives
from shelftalk.tasks.samples import Samples
from shelftalk.tasks.task import Layout, ServedTask, TaskContext, TaskSettings, singletons
from shelftalk.tasks.templates import Template


class RankingSettings(TaskSettings):
    """Candidate lists with one positive."""

    weight: float = Field(0.5, ge=0)
    """How much of the task's own epoch goes into one epoch of the mixture; 0 switches it off."""
    text_share: float = Field(0.3, ge=0, le=1)
    """Share of the training samples that show items' texts beside their names."""
    max_history: int = Field(20, ge=1)
    """Most recent items shown in a prompt; older ones are dropped."""
    min_negatives: int = Field(1, ge=1, le=99)
    """Fewest negatives in a training list."""
    max_negatives: int = Field(99, ge=1, le=99)
    """Most negatives in a training list; the number is drawn log-uniformly between the two."""
    negatives: tuple[Kind, ...] = Field(("uniform",), min_length=1)
    """Where training negatives come from, one of these at random for each: "uniform", "popular" (in
    proportion to training events), "category" (the positive's own) or "neighbour" (most similar to the
    positive by text)."""
    samples_per_user: int = Field(4, ge=1)
    """Lists drawn per user in the task's own epoch, each with another target."""

    @model_validator(mode="after")
    def _fewest_is_not_above_most(self) -> Self:
        if self.min_negatives > self.max_negatives:
            raise ValueError(
                f"min_negatives ({self.min_negatives}) is above max_negatives ({self.max_negatives})"
            )
        return self


class RankingTask(ServedTask):
    """Lists of one item taken and others not, in shuffled order."""

    name: ClassVar[str] = "ranking"
    mentions_order: ClassVar[bool] = True
    placeholders: ClassVar[tuple[str, ...]] = ("history", "candidates", "item")
    answers: ClassVar[tuple[str, ...]] = ("item",)
    settings_type: ClassVar[type[TaskSettings]] = RankingSettings
    settings: RankingSettings

    def __init__(self, settings: RankingSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.negatives = Negatives(context.split, settings.negatives)

    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        bounds = self.training_bounds(numbers)
        begin, length = bounds[:, 0], bounds[:, 1] - bounds[:, 0]
        owner = np.repeat(np.arange(len(numbers)), length)
        drawn = sample_mask(length, np.minimum(length, self.settings.samples_per_user), rng)
        position = (np.arange(len(owner)) - np.repeat(np.cumsum(length) - length, length))[drawn]
        owner, layout = owner[drawn], self.layout(numbers[owner[drawn]], rng)
        event = begin[owner] + position
        positive = self.events(event, event + 1).values
        history = self.events(event - np.minimum(position, self.settings.max_history), event)
        return self._samples(layout, history, self._candidates(layout.user, positive, rng), positive)

    def prompts(self, requests: Sequence[Request], template: Template) -> Samples:
        layout, history = self.prompt_layout(requests, template), self.histories(requests)
        candidates = self.rows_of([request.candidates for request in requests])
        return self.assemble(layout, hstack([history, candidates]), self._source(layout, history, candidates))

    def number_of_validation(self) -> int:
        return len(self.context.split.held_out_events("validation"))

    def validation(self, positions: Sequence[int] | None = None) -> Samples:
        requests, truths = self.context.split.ranking_requests("validation", positions)
        candidates = self.rows_of([request.candidates for request in requests])
        layout = self.prompt_layout(requests, self.seen[0])
        return self._samples(layout, self.histories(requests), candidates, self.rows_of([truths]).values)

    def _candidates(self, user: np.ndarray, positive: np.ndarray, rng: np.random.Generator) -> Ragged:
        """[N] the positive among negatives, shuffled."""
        low, high = np.log(self.settings.min_negatives), np.log(self.settings.max_negatives + 1)
        wanted = np.exp(rng.uniform(low, high, size=len(user))).astype(np.int64)
        numbers = self.negatives.available(user, np.maximum(wanted, self.settings.min_negatives))
        negatives = self.negatives.draw(user, numbers, np.repeat(positive, numbers), rng)
        return shuffled(hstack([singletons(positive), negatives]), rng)

    def _samples(self, layout: Layout, history: Ragged, candidates: Ragged, truth: np.ndarray) -> Samples:
        answer = self.fill("target", layout, item=self.answer_names(truth, layout))
        source = self._source(layout, history, candidates)
        return self.assemble(layout, hstack([history, candidates]), source, answer)

    def _source(self, layout: Layout, history: Ragged, candidates: Ragged) -> Ragged:
        """Candidates are shown by name alone, since a list of a hundred texts would be most of the prompt."""
        names = self.context.rendered_items("candidate", names_only=True).take(candidates.values)
        lines = self.lines(history, layout.names_only, texts=layout.texts)
        return self.fill("source", layout, history=lines, candidates=names.merge_rows(candidates.offsets))
