"""Rating prediction: history with the ratings given, and one item -> the rating."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from shelftalk.records import Request, Sample, Segment
from shelftalk.tasks.item_text import ItemText
from shelftalk.tasks.task import ServedTask, TaskSettings, windows
from shelftalk.tasks.templates import Template, fill


class RatingSettings(TaskSettings):
    """Rating samples."""

    text_share: float = Field(0.1, ge=0, le=1)
    """Share of the training samples that show items' texts beside their names."""
    targets: int = Field(0, ge=0)
    """Ratings at the end of a window that bear loss; 0: every rating of it, so that one pass trains them all."""


class RatingTask(ServedTask):
    """Ratings over windows of the training histories; a held-out rating is an item without a rating."""

    name: ClassVar[str] = "rating"
    placeholders: ClassVar[tuple[str, ...]] = ("rated_history", "rated_item", "rating", "lowest", "highest")
    optional: ClassVar[tuple[str, ...]] = ("lowest", "highest")
    needs_ratings: ClassVar[bool] = True
    settings_type: ClassVar[type[TaskSettings]] = RatingSettings
    settings: RatingSettings

    def epoch(self, draw: np.random.Generator) -> Iterator[Sample]:
        ratings = self.context.histories_ratings
        for user, items in enumerate(self.context.histories):
            for start, stop in windows(len(items), self.settings.max_history + 1, draw, self.settings.targets):
                while stop > start and ratings[user][stop - 1] is None:
                    stop -= 1  # a window ends at a rating, since its last line is the question
                if stop > start:
                    user_id = self.context.split.dataset.user_ids[user]
                    wording, text = self.choose(draw), self.choose_text(draw)
                    yield self._sample(wording, text, user_id, items[start:stop], ratings[user][start:stop])

    def prompt(self, request: Request, template: Template) -> list[Segment]:
        shown = slice(max(0, len(request.history) - self.settings.max_history), None)
        ratings = request.ratings or (None,) * len(request.history)
        past = list(zip(request.history[shown], ratings[shown], strict=True))
        return self._source(template, self.asked_text, past, request.item, first=len(past))

    def validation(self) -> Iterator[Sample]:
        for request, truth in zip(*self.context.split.rating_requests("validation"), strict=True):
            template = self.seen[0]
            segments = self.prompt(request, template) + self._answer(template, truth)
            items = (*request.history[-self.settings.max_history :], request.item)
            yield Sample(self.name, template.name, request.user, items, tuple(segments))

    def _sample(
        self, template: Template, text: ItemText, user: str, items: Sequence[str], ratings: Sequence[float | None]
    ) -> Sample:
        first = max(0, len(items) - self.settings.targets) if self.settings.targets else 0
        value = ratings[-1]
        assert value is not None  # the window was cut so
        past = list(zip(items[:-1], ratings[:-1], strict=True))
        source = self._source(template, text, past, items[-1], first)
        return Sample(self.name, template.name, user, tuple(items), tuple(source + self._answer(template, value)))

    def _source(
        self, template: Template, text: ItemText, past: Sequence[tuple[str, float | None]], item: str, first: int
    ) -> list[Segment]:
        """The text up to the asked rating; known ratings from place `first` on bear loss."""
        texts = list(self.context.rating_texts.values())
        told = self.context.rating_text
        lines = [
            segment
            for place, (seen, value) in enumerate(past)
            for segment in (text.line(seen) if value is None else text.rated_line(seen, told(value), place >= first))
        ]
        values = self.values(rated_history=lines, rated_item=text.asked(item), lowest=texts[0].strip(), highest=texts[-1].strip())
        return fill(template.source, values)

    def _answer(self, template: Template, value: float) -> list[Segment]:
        rating = [Segment(self.context.rating_text(value), bears_loss=True)]
        return fill(template.target, self.values(rating=rating))
