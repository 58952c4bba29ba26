"""Rating prediction: history with the ratings given, and one item -> the rating."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from shelftalk.ragged import Ragged, hstack, ragged, slices, vstack
from shelftalk.records import Request, Segment
from shelftalk.settings import Role
from shelftalk.tasks.samples import Samples
from shelftalk.tasks.task import Frame, ServedTask, TaskSettings, one_each
from shelftalk.tasks.templates import Template
from shelftalk.tasks.windows import windows


class RatingSettings(TaskSettings):
    """Rating samples."""

    text_share: float = Field(0.1, ge=0, le=1)
    """Share of the training samples that show items' texts beside their names."""
    show_ratings: bool = True
    """Whether the history shows the ratings given; without them the rating asked for is the only one in a
    sample."""
    targets: Annotated[int, Role(changes_loss=True)] = Field(0, ge=0)
    """Ratings at the end of a window that bear loss; 0: every rating of it, so that one pass trains them
    all."""


class RatingTask(ServedTask):
    """Ratings over windows of the training histories; a held-out rating is an item without a rating."""

    name: ClassVar[str] = "rating"
    placeholders: ClassVar[tuple[str, ...]] = ("rated_history", "rated_item", "rating", "lowest", "highest")
    answers: ClassVar[tuple[str, ...]] = ("rating",)
    optional: ClassVar[tuple[str, ...]] = ("lowest", "highest")
    needs_ratings: ClassVar[bool] = True
    settings_type: ClassVar[type[TaskSettings]] = RatingSettings
    settings: RatingSettings

    @property
    def built_in_templates(self) -> str:
        """Wordings that speak of ratings only where they are shown."""
        return "rating" if self.settings.show_ratings else self.for_the_order("rating_alone")

    def epoch(self, numbers: np.ndarray, draw: np.random.Generator) -> Samples:
        targets = self.settings.targets if self.settings.show_ratings else 1
        owner, start, stop, first = windows(
            self.training_bounds(numbers), self.settings.max_history + 1, draw, targets
        )
        rating = self.context.split.visible_rating
        rated = np.maximum.accumulate(np.where(np.isnan(rating), -1, np.arange(len(rating))))
        stop = rated[stop - 1] + 1  # a window ends at a rating, since its last line is the question
        some = (
            stop - start > first
        )  # else all its targets are unrated, and what stands before them is another window's to ask
        owner, start, stop, first = owner[some], start[some], stop[some], first[some]
        past, ratings = self.events(start, stop - 1), slices(rating, start, stop - 1)
        item = self.events(stop - 1, stop).values
        return self._samples(self.frame(numbers[owner], draw), past, ratings, first, item, rating[stop - 1])

    def prompts(self, requests: Sequence[Request], template: Template) -> Samples:
        frame, past, ratings = (
            self.asked(requests, template),
            self.shown(requests),
            self._shown_ratings(requests),
        )
        item = self._asked_items(requests)
        return self.made(
            frame, hstack([past, one_each(item)]), self._source(frame, past, ratings, past.lengths, item)
        )

    def validation(self) -> Samples:
        requests, truths = self.context.split.rating_requests("validation")
        frame, past, ratings = (
            self.asked(requests, self.seen[0]),
            self.shown(requests),
            self._shown_ratings(requests),
        )
        return self._samples(
            frame, past, ratings, past.lengths, self._asked_items(requests), np.array(truths)
        )

    def _asked_items(self, requests: Sequence[Request]) -> np.ndarray:
        return self.rows_of([[request.item for request in requests]]).values

    def _shown_ratings(self, requests: Sequence[Request]) -> Ragged:
        """[N] ratings along the shown histories, NaN where there is none."""
        size = self.settings.max_history
        rows = [(request.ratings or (None,) * len(request.history))[-size:] for request in requests]
        values = np.array([np.nan if value is None else value for row in rows for value in row], np.float64)
        return Ragged(values, self.shown(requests).offsets)

    def _samples(
        self,
        frame: Frame,
        past: Ragged,
        ratings: Ragged,
        first: np.ndarray,
        item: np.ndarray,
        value: np.ndarray,
    ) -> Samples:
        answer = self.fill("target", frame, rating=one_each(self._rating_codes(value) + 1))
        items = hstack([past, one_each(item)])
        return self.made(frame, items, self._source(frame, past, ratings, first, item), answer)

    def _source(
        self, frame: Frame, past: Ragged, ratings: Ragged, first: np.ndarray, item: np.ndarray
    ) -> Ragged:
        """[N] the text up to the asked rating; shown ratings from place `first` on bear loss."""
        texts = list(self.context.rating_texts.values())
        asked = self.context.forms("asked").take(self.context.form_row(item, frame.bare, False))
        lines = (
            self._rated_lines(past, ratings, first, frame)
            if self.settings.show_ratings
            else self.lines(past, frame.bare)
        )
        ends = {"lowest": texts[0].strip(), "highest": texts[-1].strip()}
        return self.fill("source", frame, rated_history=lines, rated_item=asked, **ends)

    def _rated_lines(self, past: Ragged, ratings: Ragged, first: np.ndarray, frame: Frame) -> Ragged:
        """[N] one line per item: with its rating where there is one to show, cut into the same segments as
        question and answer."""
        rows = self.context.form_row(past.values, np.repeat(frame.bare, past.lengths), False)
        known = ~np.isnan(ratings.values)
        loss = past.positions >= np.repeat(first, past.lengths)
        rated = hstack(
            [
                self.context.forms("asked").take(rows[known]),
                one_each(self._rating_codes(ratings.values[known]) + loss[known]),
                one_each(np.full(int(known.sum()), self.context.tables.code(Segment("\n")))),
            ]
        )
        plain = self.context.forms("line").take(rows[~known])
        position = np.where(known, np.cumsum(known) - 1, known.sum() + np.cumsum(~known) - 1)
        return vstack([rated, plain]).take(position).merge_rows(past.offsets)

    def _rating_codes(self, values: np.ndarray) -> np.ndarray:
        """Piece codes, without loss, of the scale's nearest values: a held-out rating may be one that
        training never saw."""
        scale = np.array(list(self.context.rating_texts))
        codes = ragged(
            [self.context.tables.codes([Segment(text)]) for text in self.context.rating_texts.values()]
        ).values
        return codes[np.abs(values[:, None] - scale).argmin(axis=1)]
