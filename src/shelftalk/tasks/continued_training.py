"""What a training that goes on has learned already: items whose names it knows, and how many training events
of each user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from shelftalk.data.splitting import Split
from shelftalk.errors import MissingFile

INDEX = "item_index.parquet"
HISTORIES = "histories.parquet"
"""In the folder of `index.continues`, beside the index: user_id, and the number of training events."""


@dataclass(frozen=True, eq=False)
class Known:
    """`since` [U] the event row from which on a user's training events are new, that after the last of them
    where none is; `new_items` [I] bool, the items that have no name yet."""

    since: np.ndarray
    new_items: np.ndarray


def known_of(split: Split, folder: str) -> Known | None:
    """What the training of a split has learned before, by the files in a folder; None for "" (nothing)."""
    histories = known_histories(folder)
    if histories is None:
        return None
    bounds = split.training_bounds
    before = np.array([histories.get(user, 0) for user in split.dataset.user_ids], np.int64)
    items = set(pl.read_parquet(Path(folder) / INDEX, glob=False)["item_id"].to_list())
    new = np.array([item not in items for item in split.dataset.item_ids], bool)
    return Known(np.minimum(bounds[:, 0] + before, bounds[:, 1]), new)


def known_histories(folder: str) -> dict[str, int] | None:
    """User id -> training events learned from; None for "". Raises MissingFile."""
    if not folder:
        return None
    path = Path(folder) / HISTORIES
    if not path.exists():
        raise MissingFile(
            f'there is no "{path}", which the run continues; put the folder back, or append to the earlier '
            "run again."
        )
    return dict(pl.read_parquet(path, glob=False).iter_rows())
