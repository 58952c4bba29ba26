"""What several task tests share: settings that keep every sample, and what can be read off a sample or a
split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import polars as pl

from shelftalk.data.similarity import nearest_by_text
from shelftalk.data.splitting import TRAIN, Split
from shelftalk.records import Sample
from shelftalk.testing.task_exams import exam_index

FULL = {"weight": 1.0, "text_share": 1.0}
"""Every sample of the task's own epoch, with its items' texts."""


def answer(sample: Sample, split: Split) -> str:
    """The item that the last segment bearing loss names."""
    return exam_index(split).item([s.text for s in sample.segments if s.bears_loss][-1])


def with_a_neighbour(split: Split) -> set[str]:
    """The items that share a word with another one."""
    nearest = nearest_by_text(split.dataset.items, 1)[:, 0]
    return {split.dataset.item_ids[row] for row in np.flatnonzero(nearest >= 0)}


def visible_ratings(split: Split) -> dict[tuple[str, str], float]:
    """(user, item) -> rating, of the training part alone."""
    rows = (
        split.dataset.events.filter(pl.Series(split.rating_part == TRAIN))
        .select("user_id", "item_id", "rating")
        .iter_rows()
    )
    return {(user, item): rating for user, item, rating in rows}


def learned(samples: Iterable[Sample], split: Split) -> Counter[tuple[str, str]]:
    """How often the name of (user, item) bears loss."""
    index = exam_index(split)
    return Counter(
        (sample.user, index.item(s.text))
        for sample in samples
        for s in sample.segments
        if s.bears_loss and s.symbols
    )
