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
from shelftalk.tasks.task import Layout, ServedTask, TaskSettings, singletons
from shelftalk.tasks.templates import Template
from shelftalk.tasks.windows import windows


class RatingSettings(TaskSettings):
    """Rating samples."""

    text_share: float = Field(0.1, ge=0, le=1)
    """Share of the training samples that show items' texts beside their names."""
    show_ratings: bool = True
    """Whether the history shows the ratings given; else the predicted rating is the only one in a sample."""
    targets: Annotated[int, Role(changes_loss=True)] = Field(0, ge=0)
    """Ratings at the end of a window that bear loss; 0: all of them, trained in one pass."""


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
        """Templates that mention the ratings of the history only where they are shown."""
        return "rating" if self.settings.show_ratings else self.order_variant("rating_alone")

    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        targets = self.settings.targets if self.settings.show_ratings else 1
        owner, start, stop, first = windows(
            self.training_bounds(numbers), self.settings.max_history + 1, rng, targets
        )
        rating = self.context.split.visible_rating
        rated = np.maximum.accumulate(np.where(np.isnan(rating), -1, np.arange(len(rating))))
        stop = rated[stop - 1] + 1  # a window ends at a rating, since its last item is the one to rate
        # without a rated target the window is left out: ratings before its targets are other windows' targets
        kept = stop - start > first
        owner, start, stop, first = owner[kept], start[kept], stop[kept], first[kept]
        past, ratings = self.events(start, stop - 1), slices(rating, start, stop - 1)
        item = self.events(stop - 1, stop).values
        return self._samples(self.layout(numbers[owner], rng), past, ratings, first, item, rating[stop - 1])

    def prompts(self, requests: Sequence[Request], template: Template) -> Samples:
        layout, past, item = (
            self.prompt_layout(requests, template),
            self.histories(requests),
            self._items_to_rate(requests),
        )
        source = self._source(layout, past, self._shown_ratings(requests), past.lengths, item)
        return self.assemble(layout, hstack([past, singletons(item)]), source)

    def number_of_validation(self) -> int:
        return len(self.context.split.held_out_ratings("validation"))

    def validation(self, positions: Sequence[int] | None = None) -> Samples:
        requests, truths = self.context.split.rating_requests("validation", positions)
        layout, past, item = (
            self.prompt_layout(requests, self.seen[0]),
            self.histories(requests),
            self._items_to_rate(requests),
        )
        ratings = self._shown_ratings(requests)
        return self._samples(layout, past, ratings, past.lengths, item, np.array(truths))

    def _items_to_rate(self, requests: Sequence[Request]) -> np.ndarray:
        return self.rows_of([[request.item for request in requests]]).values

    def _shown_ratings(self, requests: Sequence[Request]) -> Ragged:
        """[N] ratings along the shown histories, NaN where there is none."""
        size = self.settings.max_history
        rows = [(request.ratings or (None,) * len(request.history))[-size:] for request in requests]
        values = np.array([np.nan if value is None else value for row in rows for value in row], np.float64)
        return Ragged(values, self.histories(requests).offsets)

    def _samples(
        self,
        layout: Layout,
        past: Ragged,
        ratings: Ragged,
        first: np.ndarray,
        item: np.ndarray,
        value: np.ndarray,
    ) -> Samples:
        answer = self.fill("target", layout, rating=singletons(self._rating_codes(value) + 1))
        items = hstack([past, singletons(item)])
        return self.assemble(layout, items, self._source(layout, past, ratings, first, item), answer)

    def _source(
        self, layout: Layout, past: Ragged, ratings: Ragged, first: np.ndarray, item: np.ndarray
    ) -> Ragged:
        """[N] the text before the answer; ratings of the history from position `first` [N] on bear loss."""
        texts = list(self.context.rating_texts.values())
        rows = self.context.variant_row(item, layout.names_only, False)
        rated_item = self.context.item_variants("before_rating").take(rows)
        lines = (
            self._rated_lines(past, ratings, first, layout)
            if self.settings.show_ratings
            else self.lines(past, layout.names_only, texts=layout.texts)
        )
        ends = {"lowest": texts[0].strip(), "highest": texts[-1].strip()}
        return self.fill("source", layout, rated_history=lines, rated_item=rated_item, **ends)

    def _rated_lines(self, past: Ragged, ratings: Ragged, first: np.ndarray, layout: Layout) -> Ragged:
        """[N] one line per item, with its rating where there is one, in the same segments as the item to rate
        and its answer."""
        names_only = np.repeat(layout.names_only, past.lengths)
        known = ~np.isnan(ratings.values)
        loss = past.positions >= np.repeat(first, past.lengths)
        rated = hstack(
            [
                self.entries("before_rating", past.values[known], names_only[known], False, layout.texts),
                singletons(self._rating_codes(ratings.values[known]) + loss[known]),
                singletons(np.full(int(known.sum()), self.context.tables.code(Segment("\n")))),
            ]
        )
        plain = self.entries("line", past.values[~known], names_only[~known], False, layout.texts)
        position = np.where(known, np.cumsum(known) - 1, known.sum() + np.cumsum(~known) - 1)
        return vstack([rated, plain]).take(position).merge_rows(past.offsets)

    def _rating_codes(self, values: np.ndarray) -> np.ndarray:
        """Piece codes, without loss, of the scale's nearest values: a held-out rating may be one that
        training never saw."""
        scale = np.array(list(self.context.rating_texts))
        codes = ragged(
            [self.context.tables.codes([Segment(text)]) for text in self.context.rating_texts.values()]
        ).values
        result: np.ndarray = codes[np.abs(values[:, None] - scale).argmin(axis=1)]
        return result
