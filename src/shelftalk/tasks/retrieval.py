"""Retrieval: history -> the next item, out of the whole catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from shelftalk.errors import TemplateError
from shelftalk.ragged import Ragged, hstack
from shelftalk.records import Request
from shelftalk.settings import Role
from shelftalk.tasks.samples import Samples
from shelftalk.tasks.task import Frame, ServedTask, TaskContext, TaskSettings, one_each
from shelftalk.tasks.templates import Template
from shelftalk.tasks.windows import windows


class RetrievalSettings(TaskSettings):
    """Next-item samples."""

    text_share: float = Field(0.1, ge=0, le=1)
    """Share of the training samples that show items' texts beside their names."""
    targets: Annotated[int, Role(changes_loss=True)] = Field(0, ge=0)
    """Items at the end of a window that bear loss; 0: every item of it, so that one pass over a history
    trains each of its next items (the economical form for decoder-only models)."""


class RetrievalTask(ServedTask):
    """Next-item samples over windows of the training histories."""

    name: ClassVar[str] = "retrieval"
    speaks_of_order: ClassVar[bool] = True
    placeholders: ClassVar[tuple[str, ...]] = ("history", "item")
    answers: ClassVar[tuple[str, ...]] = ("item",)
    settings_type: ClassVar[type[TaskSettings]] = RetrievalSettings
    settings: RetrievalSettings

    def __init__(self, settings: RetrievalSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        for template in self.templates:
            if settings.targets != 1 and not template.ends_with_history:
                raise TemplateError(
                    f'template "{template.name}" of the retrieval task goes on after {{history}}, so only one item of a window '
                    "can be its target; set tasks.retrieval.targets = 1 or end the wording with {history}."
                )

    def epoch(self, numbers: np.ndarray, draw: np.random.Generator) -> Samples:
        bounds = self.training_bounds(numbers)
        owner, start, stop, first = windows(
            bounds, self.settings.max_history + 1, draw, self.settings.targets
        )
        some = (stop - start > 1) | (
            bounds[owner, 1] - bounds[owner, 0] == 1
        )  # without a history only where there is none to show
        owner, start, stop, first = owner[some], start[some], stop[some], first[some]
        return self._samples(
            self.frame(numbers[owner], draw),
            self.events(start, stop - 1),
            self.events(stop - 1, stop).values,
            first,
        )

    def prompts(self, requests: Sequence[Request], template: Template) -> Samples:
        frame, history = self.asked(requests, template), self.shown(requests)
        return self.made(frame, history, self._source(frame, history, None))

    def validation(self) -> Samples:
        requests, truths = self.context.split.retrieval_requests("validation")
        return self._samples(
            self.asked(requests, self.seen[0]), self.shown(requests), self.rows_of([truths]).values, None
        )

    def _samples(self, frame: Frame, history: Ragged, last: np.ndarray, first: np.ndarray | None) -> Samples:
        """The last item is the target, and so are those of the history from place `first` on."""
        answer = self.fill("target", frame, item=self.named(last, frame))
        return self.made(
            frame, hstack([history, one_each(last)]), self._source(frame, history, first), answer
        )

    def _source(self, frame: Frame, history: Ragged, first: np.ndarray | None) -> Ragged:
        return self.fill("source", frame, history=self.lines(history, frame.bare, first))
