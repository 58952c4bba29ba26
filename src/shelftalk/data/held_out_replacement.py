"""A split with everything that is held out replaced by something else: what finds leaks.

Whatever is made of training data alone is the same for both splits, to the byte.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from shelftalk import seeds
from shelftalk.data.dataset import Dataset
from shelftalk.data.splitting import PARTS, TRAIN, Part, Split


def replace_held_out(split: Split, seed: int) -> Split:
    """The same split with everything held out replaced by something else; what a model may see is unchanged.

    Each held-out event gets an item that its user never took, each rating outside the training part another
    of the data's values (a data set with one value gets that value + 1). The ranking candidates are drawn
    again for the new items. An item index and training samples made from the result must be identical to
    the byte to those made from `split`.
    """
    data, rng = split.dataset, seeds.generator(seed, "replace held out")
    items = data.event_item.copy()  # [E]
    for first, stop in zip(data.bounds[:-1], data.bounds[1:], strict=True):
        held_out = first + np.flatnonzero(split.event_part[first:stop] != TRAIN)
        items[held_out] = _untaken(data.event_item[first:stop], len(held_out), len(data.items), rng)
    columns = [
        pl.Series("item_id", [data.item_ids[row] for row in items.tolist()], pl.String),
        pl.Series("rating", _other_ratings(split, rng), pl.Float64).fill_nan(None),
    ]
    replaced = replace(split, dataset=Dataset(data.items, data.events.with_columns(columns)))
    candidates: dict[str, np.ndarray] = {
        part: _candidates(replaced, part, rng) for part in PARTS if part in split.candidates
    }
    return replace(replaced, candidates=candidates)


def _untaken(taken: np.ndarray, number: int, items: int, rng: np.random.Generator) -> np.ndarray:
    """[number] catalogue rows outside the distinct rows `taken`, each once, in random order."""
    # the n-th untaken row is n plus the taken rows before it
    before = np.sort(taken) - np.arange(len(taken))
    drawn = rng.choice(items - len(taken), number, replace=False)
    return drawn + np.searchsorted(before, drawn, side="right")


def _other_ratings(split: Split, rng: np.random.Generator) -> np.ndarray:
    """[E] float64: visible ratings as they are, all others another value, NaN where there is none."""
    data = split.dataset
    ratings, values = data.event_rating.copy(), np.array(data.rating_values)
    events = np.flatnonzero(~np.isnan(ratings) & (split.rating_part != TRAIN))
    if len(values) < 2:
        ratings[events] += 1
    else:  # some steps on along the values, and never all the way round
        steps = rng.integers(1, len(values), len(events))
        ratings[events] = values[(np.searchsorted(values, ratings[events]) + steps) % len(values)]
    return ratings


def _candidates(split: Split, part: Part, rng: np.random.Generator) -> np.ndarray:
    """[events of the part, 1 + negatives] int32, as many as before: the part's item among items that
    the user of the replaced split never took."""
    data, rows = split.dataset, np.empty_like(split.candidates[part])
    events = split.held_out_events(part)
    users = split.event_user[events]
    for position, (truth, user) in enumerate(zip(data.event_item[events], users, strict=True)):
        taken = data.event_item[data.bounds[user] : data.bounds[user + 1]]
        negatives = _untaken(taken, rows.shape[1] - 1, len(data.items), rng)
        rows[position] = rng.permutation(np.append(negatives, truth))
    return rows
