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
from shelftalk.tasks.task import Layout, ServedTask, TaskContext, TaskSettings, singletons
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
    mentions_order: ClassVar[bool] = True
    placeholders: ClassVar[tuple[str, ...]] = ("history", "item")
    answers: ClassVar[tuple[str, ...]] = ("item",)
    settings_type: ClassVar[type[TaskSettings]] = RetrievalSettings
    settings: RetrievalSettings

    def __init__(self, settings: RetrievalSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        for template in self.templates:
            if settings.targets != 1 and not template.ends_with_history:
                raise TemplateError(
                    f'the source of template "{template.name}" of the retrieval task has text after '
                    "{history}, so only one item of a window can be its target; set "
                    "tasks.retrieval.targets = 1 or end the source with {history}."
                )

    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        bounds = self.training_bounds(numbers)
        owner, start, stop, first = windows(bounds, self.settings.max_history + 1, rng, self.settings.targets)
        # a sample without a history is made only of a user with a single event
        kept = (stop - start > 1) | (bounds[owner, 1] - bounds[owner, 0] == 1)
        if self.context.known is not None:  # older events are shown and not learned again
            since = self.context.known.since[numbers[owner]]
            kept &= stop > since
            first = np.maximum(first, since - start)
        owner, start, stop, first = owner[kept], start[kept], stop[kept], first[kept]
        history, last = self.events(start, stop - 1), self.events(stop - 1, stop).values
        return self._samples(self.layout(numbers[owner], rng), history, last, first)

    def prompts(self, requests: Sequence[Request], template: Template) -> Samples:
        layout, history = self.prompt_layout(requests, template), self.histories(requests)
        return self.assemble(layout, history, self._source(layout, history, None))

    def number_of_validation(self) -> int:
        return len(self.context.split.held_out_events("validation"))

    def validation(self, positions: Sequence[int] | None = None) -> Samples:
        requests, truths = self.context.split.retrieval_requests("validation", positions)
        layout, last = self.prompt_layout(requests, self.seen[0]), self.rows_of([truths]).values
        return self._samples(layout, self.histories(requests), last, None)

    def _samples(
        self, layout: Layout, history: Ragged, last: np.ndarray, first: np.ndarray | None
    ) -> Samples:
        """The last item is the target, and so are those of the history from position `first` on."""
        answer = self.fill("target", layout, item=self.answer_names(last, layout))
        source = self._source(layout, history, first)
        return self.assemble(layout, hstack([history, singletons(last)]), source, answer)

    def _source(self, layout: Layout, history: Ragged, first: np.ndarray | None) -> Ragged:
        return self.fill(
            "source", layout, history=self.lines(history, layout.names_only, first, layout.texts)
        )
