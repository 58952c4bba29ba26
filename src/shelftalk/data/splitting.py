"""Split: one partition for all tasks of a model, kept label by label.

The label of retrieval and ranking is *that* the user took an item; the label of rating prediction is the value. An event
held out for retrieval is in no training text and no count at all; a rating held out is an event without a rating.

Legend: U users, E events, I items.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from shelftalk import seeds
from shelftalk.data.dataset import Dataset
from shelftalk.errors import NothingLeft, TooFewEvents
from shelftalk.records import Request

TRAIN, VALIDATION, TEST, NONE = 0, 1, 2, 3
Part = Literal["validation", "test"]
MAX_RATING_VALUES = 100
"""A scale of more values has too few examples of each for a model to say them."""
PART_NUMBER: dict[str, int] = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


class SplitSettings(BaseModel):
    """How events and ratings are divided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ranking_negatives: int = Field(99, ge=1)
    """Candidates that the user never took, beside the one taken, drawn once per user and part, uniformly."""
    rating_validation: float = Field(0.1, gt=0, lt=0.5)
    """Share of all ratings held out for validation."""
    rating_test: float = Field(0.1, gt=0, lt=0.5)
    """Share of all ratings held out for the test."""


@dataclass(frozen=True, eq=False)
class Split:
    """A dataset with each event and each rating in its part.

    `event_part` [E] uint8: TRAIN, VALIDATION (each user's last but one event) or TEST (the last).
    `rating_part` [E] uint8: TRAIN, VALIDATION, TEST, or NONE (no rating, or drawn for training but held out as an event).
    `candidates` part -> [U, 1 + negatives] int32 catalogue rows, shuffled; the event's own item is among them.
    """

    dataset: Dataset
    event_part: np.ndarray
    rating_part: np.ndarray
    candidates: dict[str, np.ndarray]

    @cached_property
    def training_bounds(self) -> np.ndarray:
        """[U, 2] int64: user u's training events are the rows [u, 0] : [u, 1], oldest first."""
        bounds = self.dataset.bounds
        return np.stack([bounds[:-1], bounds[1:] - 2], axis=1)

    @cached_property
    def visible_rating(self) -> np.ndarray:
        """[E] float64: the rating where a model may see it, NaN elsewhere. Every shown rating and every mean reads this."""
        return np.where(self.rating_part == TRAIN, self.dataset.event_rating, np.nan)

    @cached_property
    def training_items(self) -> np.ndarray:
        """[training events] int32 catalogue rows: all that may be counted."""
        return self.dataset.event_item[self.event_part == TRAIN]

    @cached_property
    def training_users(self) -> np.ndarray:
        """[training events] int64 user numbers, aligned with `training_items`."""
        users = np.repeat(np.arange(len(self.dataset.user_ids)), np.diff(self.dataset.bounds))
        return users[self.event_part == TRAIN]

    @cached_property
    def popularity(self) -> np.ndarray:
        """[I] int64: training events per catalogue row; 0 for an item never seen in training."""
        return np.bincount(self.training_items, minlength=len(self.dataset.items))

    @cached_property
    def why_no_rating_task(self) -> str:
        """Why the data cannot support rating prediction, as half a sentence; "" where it can."""
        if not self.dataset.has_ratings:
            return "the interactions have no ratings"
        if not all((self.rating_part == part).any() for part in PART_NUMBER.values()):
            return "there are too few ratings for a training, a validation and a test part"
        values = len(np.unique(self.visible_rating[~np.isnan(self.visible_rating)]))
        if values > MAX_RATING_VALUES:
            return f"there are {values} different ratings; round them to at most {MAX_RATING_VALUES} values"
        return ""

    def held_out_event(self, user: int, part: Part) -> int:
        """The event row that `part` holds out of user number `user`."""
        return int(self.dataset.bounds[user + 1]) - (1 if part == "test" else 2)

    def retrieval_requests(self, part: Part) -> tuple[list[Request], list[str]]:
        """One request per user and the item it should find; at test time the validation item is in the history."""
        pairs = [self._history_request(user, part) for user in range(len(self.dataset.user_ids))]
        return [request for request, _ in pairs], [truth for _, truth in pairs]

    def ranking_requests(self, part: Part) -> tuple[list[Request], list[str]]:
        """As `retrieval_requests`, with the fixed candidates of the part."""
        ids = self.dataset.item_ids
        requests, truths = self.retrieval_requests(part)
        shown = [tuple(ids[row] for row in rows) for rows in self.candidates[part].tolist()]
        return [Request(r.user, r.history, r.ratings, candidates=c) for r, c in zip(requests, shown, strict=True)], truths

    def rating_requests(self, part: Part) -> tuple[list[Request], list[float]]:
        """One request per rating of the part; its history holds the training events before the rated one."""
        data = self.dataset
        users = np.repeat(np.arange(len(data.user_ids)), np.diff(data.bounds))
        requests, truths = [], []
        for event in np.flatnonzero(self.rating_part == PART_NUMBER[part]):
            user = int(users[event])
            first, last = self.training_bounds[user]
            history, ratings = self._shown(int(first), int(min(event, last)))
            requests.append(Request(data.user_ids[user], history, ratings, item=data.item_ids[data.event_item[event]]))
            truths.append(float(data.event_rating[event]))
        return requests, truths

    def _history_request(self, user: int, part: Part) -> tuple[Request, str]:
        event = self.held_out_event(user, part)
        history, ratings = self._shown(int(self.dataset.bounds[user]), event)
        return Request(self.dataset.user_ids[user], history, ratings), self.dataset.item_ids[self.dataset.event_item[event]]

    def _shown(self, first: int, stop: int) -> tuple[tuple[str, ...], tuple[float | None, ...]]:
        """Items and visible ratings of the event rows first : stop."""
        ids = self.dataset.item_ids
        history = tuple(ids[row] for row in self.dataset.event_item[first:stop].tolist())
        return history, tuple(None if value != value else value for value in self.visible_rating[first:stop].tolist())

    def fingerprint(self) -> str:
        """SHA-256 over dataset and partition."""
        digest = hashlib.sha256(self.dataset.fingerprint().encode())
        for array in (self.event_part, self.rating_part, *self.candidates.values()):
            digest.update(array.tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write the dataset, partition.parquet (one row per event) and candidates.parquet (one row per user) into `folder`."""
        self.dataset.save(folder)
        pl.DataFrame({"event_part": self.event_part, "rating_part": self.rating_part}).write_parquet(folder / "partition.parquet")
        pl.DataFrame({part: rows.tolist() for part, rows in self.candidates.items()}).write_parquet(folder / "candidates.parquet")

    @classmethod
    def load(cls, folder: Path) -> Split:
        """Read what `save` wrote."""
        parts = pl.read_parquet(folder / "partition.parquet", glob=False)
        candidates = pl.read_parquet(folder / "candidates.parquet", glob=False)
        return cls(
            Dataset.load(folder),
            parts["event_part"].to_numpy(),
            parts["rating_part"].to_numpy(),
            {part: np.array(candidates[part].to_list(), np.int32) for part in candidates.columns},
        )


def split_leave_one_out(dataset: Dataset, settings: SplitSettings, seed: int) -> Split:
    """Each user's last event is the test, the last but one validation; ratings are divided at random besides.

    Raises TooFewEvents for a user with fewer than three events and NothingLeft for a catalogue with too few items for the
    ranking candidates.
    """
    lengths = np.diff(dataset.bounds)
    if lengths.min() < 3:
        user = dataset.user_ids[int(lengths.argmin())]
        raise TooFewEvents(
            f'user "{user}" has {lengths.min()} events ({int((lengths < 3).sum())} such users), and leave-one-out needs 3: '
            "one each to train, validate and test; set data.k_core = 3 or more to leave such users out."
        )
    event_part = np.full(len(dataset.events), TRAIN, np.uint8)
    event_part[dataset.bounds[1:] - 1] = TEST
    event_part[dataset.bounds[1:] - 2] = VALIDATION
    _check_negatives(dataset, settings.ranking_negatives)
    candidates = {part: _draw_candidates(dataset, part, settings.ranking_negatives, seed) for part in ("validation", "test")}
    return Split(dataset, event_part, _divide_ratings(dataset, event_part, settings, seed), candidates)


def _divide_ratings(dataset: Dataset, event_part: np.ndarray, settings: SplitSettings, seed: int) -> np.ndarray:
    """[E] uint8. Drawn by place alone, so that no item or value moves another event's rating to another part."""
    rated = np.flatnonzero(~np.isnan(dataset.event_rating))
    rated = seeds.generator(seed, "rating split").permutation(rated)
    validation, test = round(len(rated) * settings.rating_validation), round(len(rated) * settings.rating_test)
    parts = np.full(len(event_part), NONE, np.uint8)
    parts[rated] = TRAIN
    parts[rated[:validation]] = VALIDATION
    parts[rated[validation : validation + test]] = TEST
    parts[(parts == TRAIN) & (event_part != TRAIN)] = NONE  # held out for retrieval: in no training text of any task
    return parts


def _check_negatives(dataset: Dataset, negatives: int) -> None:
    """Raises NothingLeft where some user leaves fewer untaken items, naming the number that every user leaves."""
    lengths = np.diff(dataset.bounds)
    least, user = len(dataset.items) - int(lengths.max()), dataset.user_ids[int(lengths.argmax())]
    if least >= negatives:
        return
    short = int((len(dataset.items) - lengths < negatives).sum())
    told = f'{short} of {len(lengths)} users leave fewer than {negatives} untaken items for ranking, user "{user}" only {least}'
    remedy = f"set split.ranking_negatives = {least} in an experiment file" if least else "add items that this user never took"
    raise NothingLeft(f"{told}; {remedy}.")


def _draw_candidates(dataset: Dataset, part: str, negatives: int, seed: int) -> np.ndarray:
    """[U, 1 + negatives] int32: the held-out item among items that the user never took, in shuffled order."""
    catalogue, bounds = len(dataset.items), dataset.bounds
    draw = seeds.generator(seed, "ranking candidates", part)
    rows = np.empty((len(bounds) - 1, 1 + negatives), np.int32)
    for user in range(len(rows)):
        taken = dataset.event_item[bounds[user] : bounds[user + 1]]
        free = catalogue - len(taken)
        # the n-th untaken row is n plus the taken rows before it: no list of the catalogue per user
        untaken_before = np.sort(taken) - np.arange(len(taken))
        drawn = draw.choice(free, negatives, replace=False)
        drawn += np.searchsorted(untaken_before, drawn, side="right")
        truth = dataset.event_item[bounds[user + 1] - (1 if part == "test" else 2)]
        rows[user] = draw.permutation(np.append(drawn, truth))
    return rows
