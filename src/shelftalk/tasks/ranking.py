"""Ranking: history and candidates -> the candidate that the user takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from shelftalk.records import Request, Sample, Segment
from shelftalk.tasks.item_text import ItemText
from shelftalk.tasks.negatives import Negatives
from shelftalk.tasks.task import ServedTask, TaskContext, TaskSettings
from shelftalk.tasks.templates import Template, fill


class RankingSettings(TaskSettings):
    """Candidate lists with one positive."""

    weight: float = Field(0.5, ge=0)
    """How much of the task's own epoch goes into one epoch of the mixture; 0 switches it off."""
    text_share: float = Field(0.3, ge=0, le=1)
    """Share of the training samples that show items' texts beside their names."""
    max_history: int = Field(20, ge=1)
    """Most recent items shown in a prompt; older ones are dropped."""
    min_negatives: int = Field(1, ge=1)
    """Fewest negatives in a training list."""
    max_negatives: int = Field(99, ge=1)
    """Most negatives in a training list; the number is drawn log-uniformly between the two."""
    samples_per_user: int = Field(4, ge=1)
    """Lists drawn per user in the task's own epoch, each with another target."""

    @model_validator(mode="after")
    def _fewest_is_not_above_most(self) -> Self:
        if self.min_negatives > self.max_negatives:
            raise ValueError(f"min_negatives ({self.min_negatives}) is above max_negatives ({self.max_negatives})")
        return self


class RankingTask(ServedTask):
    """Lists of one item taken and others not, in shuffled order."""

    name: ClassVar[str] = "ranking"
    placeholders: ClassVar[tuple[str, ...]] = ("history", "candidates", "item")
    settings_type: ClassVar[type[TaskSettings]] = RankingSettings
    settings: RankingSettings

    def __init__(self, settings: RankingSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        self.negatives = Negatives(context.split)

    def epoch(self, draw: np.random.Generator) -> Iterator[Sample]:
        low, high = np.log(self.settings.min_negatives), np.log(self.settings.max_negatives + 1)
        for user, items in enumerate(self.context.histories):
            places = draw.permutation(len(items))[: self.settings.samples_per_user]
            for place in np.sort(places).tolist():
                number = int(np.exp(draw.uniform(low, high)))
                candidates = [items[place], *self.negatives.draw(user, number, draw)]
                shown = [candidates[k] for k in draw.permutation(len(candidates)).tolist()]
                user_id = self.context.split.dataset.user_ids[user]
                request = Request(user_id, items[max(0, place - self.settings.max_history) : place], candidates=tuple(shown))
                yield self._sample(self.choose(draw), self.choose_text(draw), request, items[place])

    def prompt(self, request: Request, template: Template) -> list[Segment]:
        return self._source(template, self.asked_text, request)

    def validation(self) -> Iterator[Sample]:
        for request, truth in zip(*self.context.split.ranking_requests("validation"), strict=True):
            yield self._sample(self.seen[0], self.asked_text, request, truth)

    def _sample(self, template: Template, text: ItemText, request: Request, truth: str) -> Sample:
        answer = fill(template.target, self.values(item=text.name(truth, bears_loss=True)))
        items = (*request.history[-self.settings.max_history :], *request.candidates)
        return Sample(self.name, template.name, request.user, items, tuple(self._source(template, text, request) + answer))

    def _source(self, template: Template, text: ItemText, request: Request) -> list[Segment]:
        """Candidates stand by name alone, since a list of a hundred texts would be most of the prompt."""
        shown = request.history[-self.settings.max_history :]
        return fill(template.source, self.values(history=text.lines(shown), candidates=text.listed(request.candidates)))
