"""A data set some of whose items no training shows: what users took of them is removed, except where it is
the last thing they took.

Leave-one-out then evaluates those last ones at test time, and none of the kind before: the project's
own split, no other path. Their texts stay in the catalogue. Legend: U users.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from shelftalk import seeds
from shelftalk.data.dataset import Dataset
from shelftalk.data.splitting import Split
from shelftalk.runtime.run_folder import beside

LEAST_EVENTS = 3
"""Leave-one-out needs one event each to train, validate and test; users who are left with fewer go."""
WARM, NEVER_SEEN = "warm", "never seen"
GROUPS = (WARM, NEVER_SEEN)


def held_out(item_ids: Sequence[str], share: float, seed: int) -> set[str]:
    """That share of a catalogue, drawn by seed."""
    order = seeds.generator(seed, "never seen").permutation(len(item_ids))
    return {item_ids[row] for row in order[: round(share * len(item_ids))].tolist()}


def without(dataset: Dataset, items: set[str]) -> pl.DataFrame:
    """The dataset's events without those of `items`, except where they end a history."""
    ends = pl.col("position") == pl.col("position").max().over("user_id")
    kept = dataset.events.filter(~pl.col("item_id").is_in(list(items)) | ends)
    return kept.filter(pl.len().over("user_id") >= LEAST_EVENTS)


def write_source(folder: Path, items: pl.DataFrame, events: pl.DataFrame) -> None:
    """A folder that `data.folder` reads."""
    with beside(folder) as part:
        part.mkdir()
        items.write_parquet(part / "items.parquet")
        events.write_parquet(part / "interactions.parquet")


def groups(split: Split, items: set[str]) -> dict[str, np.ndarray]:
    """Group -> the users, by number, whose test item is of it: seen in training, or one of `items`, which
    never is.

    The few whose item is neither, since the data itself shows it to nobody before the test, are in no group.
    """
    _, truths = split.retrieval_requests("test")
    of_items = np.array([truth in items for truth in truths])  # [U]
    seen = split.popularity[[split.dataset.row_of[truth] for truth in truths]] > 0  # [U]
    return {WARM: np.flatnonzero(seen & ~of_items), NEVER_SEEN: np.flatnonzero(of_items)}


def events_before_the_test(split: Split, items: set[str]) -> int:
    """How often one of `items` was taken before the test part, in training or validation: 0, or they were
    seen."""
    rows = [split.dataset.row_of[item] for item in items]
    tested = split.dataset.bounds[1:] - 1
    before = np.delete(split.dataset.event_item, tested)
    return int(np.isin(before, rows).sum())
