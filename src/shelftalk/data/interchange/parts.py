"""What an export holds of a split, as plain frames, whatever the format.

Legend: E events, n requests of a part.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from shelftalk.data.protocol import CONTEXT, PART_NUMBER, Part
from shelftalk.data.splitting import Split

EVENT_PARTS = {**PART_NUMBER, "context": CONTEXT}


def events(split: Split) -> Iterator[tuple[str, pl.DataFrame]]:
    """Part -> its events in the order of the split: user_id, item_id, position, timestamp, nanosecond and
    rating. Only ratings that may be learned from are shown; those held out are in `ratings`. A part without
    events is left out."""
    frame = split.dataset.events.with_columns(rating=pl.Series(split.visible_rating).fill_nan(None))
    for part, number in EVENT_PARTS.items():
        chosen = frame.filter(pl.Series(split.event_part == number))
        if len(chosen):
            yield part, chosen


def ratings(split: Split) -> Iterator[tuple[str, pl.DataFrame]]:
    """Part -> user_id, item_id, timestamp and rating of its ratings; nothing where the data does not allow
    rating prediction."""
    if split.why_no_rating_task:
        return
    for part, number in PART_NUMBER.items():
        rated = split.dataset.events.filter(pl.Series(split.rating_part == number))
        yield part, rated.select("user_id", "item_id", "timestamp", "rating")


def requests(split: Split, part: Part) -> pl.DataFrame:
    """A row per held-out event: user_id, request (1, 2 ... within the user), history (list, oldest first),
    item_id (what was taken), candidates (list, the item taken among them)."""
    asked, truths = split.ranking_requests(part)
    frame = pl.DataFrame(
        {
            "user_id": [request.user for request in asked],
            "history": [list(request.history) for request in asked],
            "item_id": truths,
            "candidates": [list(request.candidates) for request in asked],
        },
        schema_overrides={"history": pl.List(pl.String), "candidates": pl.List(pl.String)},
    )
    number = pl.int_range(1, pl.len() + 1).over("user_id").alias("request")
    return frame.select("user_id", number, "history", "item_id", "candidates")


def training_histories(split: Split) -> Iterator[tuple[str, list[str], str]]:
    """User, history and next item of every training event that has one before it: what a sequential model
    learns from."""
    data, ids = split.dataset, split.dataset.item_ids
    for user, (first, stop) in zip(data.user_ids, split.training_bounds.tolist(), strict=True):
        items = [ids[row] for row in data.event_item[first:stop].tolist()]
        for position in range(1, len(items)):
            yield user, items[:position], items[position]


def several_requests(split: Split) -> bool:
    """Whether a user has more than one request in a part."""
    users = [split.event_user[split.held_out_events(part)] for part in ("validation", "test")]
    return any(len(np.unique(of_part)) < len(of_part) for of_part in users)
