"""Enough of Cornac 3 to be adapted to, so that the adapter is tested where Cornac is not installed: the data
sets as plain values, and models whose scores can be worked out by hand."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shelftalk.baselines import cornac_models


class ScoreException(Exception):
    """As cornac.exception.ScoreException."""


class Recommender:
    """As cornac.models.Recommender, in what the adapter calls."""

    def __init__(self, name: str, trainable: bool = True, verbose: bool = True) -> None:
        self.name, self.verbose = name, verbose

    def fit(self, train_set: Any, val_set: Any = None) -> Recommender:
        if self.verbose:
            raise AssertionError("a stage prints nothing of its own")
        self.train_set, self.val_set = train_set, val_set
        return self

    def default_score(self) -> float:
        return float(np.mean(self.train_set.uir_tuple[2]))


class NextItemRecommender(Recommender):
    """Scores the items after a history."""


class NextBasketRecommender(Recommender):
    """Scores the items of the next basket."""


class Counts(Recommender):
    """Scores an item by `scale` times the sum of its values, plus a number drawn per item, plus 10 for the
    items of the user; users and items without data are unknown."""

    def __init__(self, name="Counts", scale=1.0, noise=0.0, lr=0.1, trainable=True, verbose=True, seed=None):
        super().__init__(name, trainable, verbose)
        if scale < 0:
            raise ValueError(f"scale={scale} is below 0")
        self.scale, self.noise, self.seed = scale, noise, seed

    def fit(self, train_set: Any, val_set: Any = None) -> Counts:
        super().fit(train_set, val_set)
        self.users, self.items, self.values = train_set.uir_tuple
        counts = np.bincount(self.items, self.values, minlength=train_set.num_items)
        own, shared = np.random.RandomState(self.seed), np.random.rand(train_set.num_items)
        self.base = self.scale * counts + self.noise * (own.rand(train_set.num_items) + shared)
        return self

    def score(self, user_idx: int, item_idx: int | None = None) -> Any:
        if user_idx >= self.train_set.num_users:
            raise ScoreException
        scores = self.base.copy()
        scores[self.items[self.users == user_idx]] += 10
        return scores if item_idx is None else scores[item_idx]

    def rate(self, user_idx: int, item_idx: int) -> float:
        low, high = min(self.values), max(self.values)
        known = user_idx < self.train_set.num_users and item_idx < self.train_set.num_items
        return float(np.clip(self.score(user_idx, item_idx) if known else self.default_score(), low, high))


class MF(Counts):
    """Of the name of a model that learns ratings."""


class Diverged(Counts):
    def score(self, user_idx: int, item_idx: int | None = None) -> Any:
        return np.full(self.train_set.num_items, np.nan)


class AMR(Counts):
    def fit(self, train_set: Any, val_set: Any = None) -> Counts:
        return train_set.item_image


class FM(Counts):
    """Of the name of a model that is refused for the memory it takes."""


class LightGCN(Counts):
    """Of the name of a model that needs a package beside Cornac."""


class AnnoyANN(Recommender):
    def __init__(self, model, name="AnnoyANN", verbose=False):
        super().__init__(name, verbose)


class After(NextItemRecommender):
    """Scores an item by how often it came right after the last one of the history in a session."""

    def __init__(self, name="After", model_selection="last", trainable=True, verbose=True, seed=None):
        super().__init__(name, trainable, verbose)
        self.model_selection, self.seed = model_selection, seed

    def fit(self, train_set: Any, val_set: Any = None) -> After:
        super().fit(train_set, val_set)
        size, sessions = len(train_set.iid_map), train_set.session_indices
        self.next = np.zeros((size, size))
        items = train_set.uir_tuple[1]
        follows = sessions[1:] == sessions[:-1]
        np.add.at(self.next, (items[:-1][follows], items[1:][follows]), 1)
        return self

    def score(self, user_idx: int, history_items: list[int]) -> np.ndarray:
        return self.next[history_items[-1]] if history_items else np.ones(len(self.next))


class GRU4Rec(After):
    """Of the name of a model that trains users side by side."""

    def __init__(self, name="GRU4Rec", batch_size=512, verbose=True, seed=None):
        super().__init__(name, verbose=verbose, seed=seed)


class TIGER(After):
    """Of the name of a model that reads item features."""


class LETTER(TIGER):
    def __init__(self, name="LETTER", weight=0.5, **kwargs):
        super().__init__(name=name, **kwargs)


class UPCF(NextBasketRecommender):
    def __init__(self, name="UPCF", verbose=False):
        super().__init__(name, verbose=verbose)


MODELS = (Counts, MF, Diverged, AMR, FM, LightGCN, AnnoyANN, After, GRU4Rec, TIGER, LETTER, UPCF)


@pytest.fixture(scope="session")
def stand_in_modules() -> dict[str, ModuleType]:
    """Name in sys.modules -> module."""
    bases = (Recommender, NextItemRecommender, NextBasketRecommender)
    contents: dict[str, dict[str, Any]] = {
        "cornac": {},
        "cornac.models": {kind.__name__: kind for kind in (*bases, *MODELS)},
        "cornac.data": dict.fromkeys(("Dataset", "SequentialDataset", "FeatureModality"), SimpleNamespace),
        "cornac.exception": {"ScoreException": ScoreException},
    }
    modules = {name: ModuleType(name) for name in contents}
    for name, values in contents.items():
        vars(modules[name]).update(values)
    return modules


@pytest.fixture
def cornac(stand_in_modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in in place of Cornac."""
    cornac_models.cornac_model.cache_clear()
    for name, module in stand_in_modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    yield stand_in_modules["cornac.models"]
    cornac_models.cornac_model.cache_clear()
