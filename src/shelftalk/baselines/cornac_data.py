"""A split as the data sets of Cornac: users and items by number, those that a model learns from first.

Only events of the training part go in; validation is given to a model that chooses its best epoch by it.

Legend: E events, I items, n events that are learnt from.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from shelftalk import seeds
from shelftalk.baselines.validation import VALIDATION_USERS
from shelftalk.data.similarity import text_vectors
from shelftalk.data.splitting import TRAIN, VALIDATION, Split
from shelftalk.errors import NothingLeft
from shelftalk.indexing.item_vectors import dense_vectors

ITEM_FEATURES = 256
"""Dimensions, at most, of the text vectors that are given to a model that reads item features."""


@dataclass(frozen=True, eq=False)
class CornacData:
    """`learnt` [n] event rows, ascending: what a model may learn from. `seed`: of Cornac's own draws."""

    split: Split
    learnt: np.ndarray
    ratings: bool
    seed: int

    @cached_property
    def known_users(self) -> np.ndarray:
        """User numbers of the split that are learnt from, ascending."""
        return np.unique(self.split.event_user[self.learnt])

    @cached_property
    def known_items(self) -> np.ndarray:
        """Catalogue rows that are learnt from, ascending."""
        return np.unique(self.split.dataset.event_item[self.learnt])

    @cached_property
    def user_number(self) -> np.ndarray:
        """[users] Cornac's number of each user of the split."""
        return _numbers(self.known_users, len(self.split.dataset.user_ids))

    @cached_property
    def item_number(self) -> np.ndarray:
        """[I] Cornac's number of each catalogue row."""
        return _numbers(self.known_items, len(self.split.dataset.items))

    def matrix(self, events: np.ndarray) -> Any:
        """A cornac.data.Dataset of the event rows, with a value of 1 each where no ratings are learnt."""
        from cornac.data import Dataset

        return Dataset(**self._common(events), seed=self.seed)

    def sessions(self, events: np.ndarray) -> Any:
        """A cornac.data.SequentialDataset of the event rows, one session per user, oldest first."""
        from cornac.data import SequentialDataset

        sessions = self.user_number[self.split.event_user[events]]
        return SequentialDataset(
            **self._common(events),
            num_sessions=len(np.unique(sessions)),
            sid_map=self._ids(self.split.dataset.user_ids, self.user_number),
            session_indices=sessions,
            seed=self.seed,
        )

    def validation(self, sequential: bool) -> Any:
        """The validation items of VALIDATION_USERS users at most, drawn by seed; for a sequential model after
        their training events."""
        split = self.split
        users = split.evaluated_users("validation")
        drawn = seeds.generator(self.seed, "cornac validation users").permutation(users)[:VALIDATION_USERS]
        parts = (TRAIN, VALIDATION) if sequential else (VALIDATION,)
        rows = np.flatnonzero(np.isin(split.event_user, drawn) & np.isin(split.event_part, parts))
        return self.sessions(rows) if sequential else self.matrix(rows)

    def item_features(self) -> Any:
        """A cornac.data.FeatureModality of the catalogue texts: TF-IDF, truncated to ITEM_FEATURES singular
        vectors of unit length, in the order of Cornac's numbers."""
        from cornac.data import FeatureModality

        texts = text_vectors(self.split.dataset.items)
        vectors = dense_vectors(texts, ITEM_FEATURES, self.seed, "cornac item features")
        return FeatureModality(features=vectors[np.argsort(self.item_number)].astype(np.float32))

    def _common(self, rows: np.ndarray) -> dict[str, Any]:
        """What both kinds of data set are made of."""
        data = self.split.dataset
        values = self.split.visible_rating[rows] if self.ratings else np.ones(len(rows))
        users = self.user_number[self.split.event_user[rows]]
        return {
            "num_users": len(self.known_users),
            "num_items": len(self.known_items),
            "uid_map": self._ids(data.user_ids, self.user_number),
            "iid_map": self._ids(data.item_ids, self.item_number),
            "uir_tuple": (users, self.item_number[data.event_item[rows]], values),
            "timestamps": np.arange(len(rows)),  # events are oldest first within a user
        }

    @staticmethod
    def _ids(ids: list[str], numbers: np.ndarray) -> OrderedDict[str, int]:
        """Id -> Cornac's number, in the order of the numbers: all of them, known or not."""
        order = np.argsort(numbers).tolist()
        return OrderedDict((ids[row], number) for number, row in enumerate(order))


def learnt_events(name: str, split: Split, ratings: bool) -> np.ndarray:
    """[n] event rows of the training part, only those with a visible rating where `ratings` are learnt.
    Raises NothingLeft where there are none."""
    learnt = split.event_part == TRAIN
    if ratings:
        learnt = learnt & ~np.isnan(split.visible_rating)
    if not learnt.any():
        raise NothingLeft(
            f'"{name}" learns ratings, and the training part has none; set feedback = "events" in '
            f'[baselines."{name}"], or leave the model out.'
        )
    return np.flatnonzero(learnt)


def _numbers(known: np.ndarray, size: int) -> np.ndarray:
    """[size] new number of each old one: the known ones first, each group in the old order."""
    others = np.setdiff1d(np.arange(size), known)
    numbers = np.empty(size, np.int64)
    numbers[np.concatenate([known, others])] = np.arange(size)
    return numbers
