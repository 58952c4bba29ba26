"""Retrieval: history -> the next item, out of the whole catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from shelftalk.errors import TemplateError
from shelftalk.records import Request, Sample, Segment
from shelftalk.tasks.item_text import ItemText
from shelftalk.tasks.task import ServedTask, TaskContext, TaskSettings, windows
from shelftalk.tasks.templates import Template, fill


class RetrievalSettings(TaskSettings):
    """Next-item samples."""

    text_share: float = Field(0.1, ge=0, le=1)
    """Share of the training samples that show items' texts beside their names."""
    targets: int = Field(0, ge=0)
    """Items at the end of a window that bear loss; 0: every item of it, so that one pass over a history trains each of its
    next items (the economical form for decoder-only models)."""


class RetrievalTask(ServedTask):
    """Next-item samples over windows of the training histories."""

    name: ClassVar[str] = "retrieval"
    placeholders: ClassVar[tuple[str, ...]] = ("history", "item")
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

    def epoch(self, draw: np.random.Generator) -> Iterator[Sample]:
        for user, items in enumerate(self.context.histories):
            for start, stop in windows(len(items), self.settings.max_history + 1, draw, self.settings.targets):
                user_id = self.context.split.dataset.user_ids[user]
                yield self._sample(self.choose(draw), self.choose_text(draw), user_id, items[start:stop])

    def prompt(self, request: Request, template: Template) -> list[Segment]:
        shown = request.history[-self.settings.max_history :]
        return fill(template.source, self.values(history=self.asked_text.lines(shown)))

    def validation(self) -> Iterator[Sample]:
        for request, truth in zip(*self.context.split.retrieval_requests("validation"), strict=True):
            template = self.seen[0]
            answer = fill(template.target, self.values(item=self.asked_text.name(truth, bears_loss=True)))
            items = (*request.history[-self.settings.max_history :], truth)
            yield Sample(self.name, template.name, request.user, items, tuple(self.prompt(request, template) + answer))

    def _sample(self, template: Template, text: ItemText, user: str, items: Sequence[str]) -> Sample:
        """A window: its last item is the target, and so are those before it as far as `targets` reaches."""
        first = max(0, len(items) - self.settings.targets) if self.settings.targets else 0
        *history, last = items
        lines = [segment for place, item in enumerate(history) for segment in text.line(item, place >= first)]
        source = fill(template.source, self.values(history=lines))
        answer = fill(template.target, self.values(item=text.name(last, bears_loss=True)))
        return Sample(self.name, template.name, user, tuple(items), tuple(source + answer))
