"""How baselines choose their settings: by NDCG@10 over all items, or by RMSE, on the validation part.

A setting that is a tuple holds the values to try. Which were tried, and how many, is the tuning budget of a
model; `Choice` keeps it beside what was chosen.

Legend: R requests, I items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import isnan, nan
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from shelftalk import seeds
from shelftalk.baselines.scored_catalogue import Score, ScoredCatalogue
from shelftalk.data.splitting import Split
from shelftalk.errors import NothingLeft
from shelftalk.records import Request
from shelftalk.settings import Settings

VALIDATION_USERS = 5000
"""Validation requests at most, by default."""
SettingsT = TypeVar("SettingsT", bound=Settings)
Metric = Literal["ndcg@10", "rmse"]


@dataclass(frozen=True)
class Choice(Generic[SettingsT]):
    """The settings that did best on validation, with one value for each of `names`, the settings that were
    chosen; their validation metric, NaN where nothing is held out to choose by; and how many settings were
    tried."""

    settings: SettingsT
    names: tuple[str, ...]
    metric: Metric
    value: float
    tried: int

    def chosen(self) -> dict[str, float]:
        """Setting -> the chosen value."""
        return {name: getattr(self.settings, name)[0] for name in self.names}

    def reason(self) -> str:
        """Why these settings, to stand in brackets."""
        if isnan(self.value):
            return "as given, not measured on validation"
        tried = f"the best of {self.tried} settings" if self.tried > 1 else "the only setting tried"
        return f"validation {self.metric} {self.value:.4f}, {tried}"


class Chosen:
    """What a model says about settings that it chose on validation."""

    name: str
    choice: Choice[Any]
    notes: tuple[str, ...] = ()
    """Sentences on what was not counted."""

    def describe(self) -> dict[str, float]:
        """What was chosen on validation, and the metric that it reached there."""
        choice = self.choice
        reached = {} if isnan(choice.value) else {f"validation {choice.metric}": choice.value}
        return {**choice.chosen(), **reached}

    def selection(self) -> list[str]:
        """What was chosen on validation and out of how many settings, as a sentence, after the notes."""
        return [*self.notes, f"{self.name}: {self.chosen_words()} ({self.choice.reason()})."]

    def chosen_words(self) -> str:
        """The chosen values in words."""
        return ", ".join(
            f"{name.replace('_', ' ')} {value:g}" for name, value in self.choice.chosen().items()
        )

    def chosen_settings(self) -> Settings:
        """The settings with which this fit is repeated without choosing."""
        result: Settings = self.choice.settings
        return result


def variants(settings: SettingsT, *names: str) -> list[SettingsT]:
    """The settings with one value for each of the named ones, for all combinations of their values; those of
    the first change slowest."""
    combinations = product(*(getattr(settings, name) for name in names))
    return [
        settings.model_copy(update={name: (value,) for name, value in zip(names, values, strict=True)})
        for values in combinations
    ]


def choose(
    model: str, names: Sequence[str], qualities: Mapping[SettingsT, float], metric: Metric
) -> Choice[SettingsT]:
    """The best of the settings tried, of equally good ones the first: most NDCG or least RMSE.

    `qualities`: settings, with one value for each of `names` -> validation metric, NaN where nothing is held
    out. Raises NothingLeft where there are several and nothing to choose by.
    """
    if len(qualities) > 1 and any(map(isnan, qualities.values())):
        raise NothingLeft(
            f"nothing is held out for validation, by which {model} would choose among {len(qualities)} "
            f"settings; give each setting of [baselines.{model}] one value."
        )
    best = (min if metric == "rmse" else max)(qualities, key=qualities.__getitem__)
    return Choice(best, tuple(names), metric, qualities[best], len(qualities))


def validation_sample(split: Split, most: int, seed: int, model: str) -> tuple[list[Request], list[str]]:
    """At most `most` validation requests and their truths, drawn by seed for the model of this name."""
    requests, truths = split.retrieval_requests("validation")
    order = seeds.generator(seed, f"{model} validation users").permutation(len(requests))[:most].tolist()
    return [requests[row] for row in order], [truths[row] for row in order]


def mean_ndcg(
    catalogue: ScoredCatalogue, score: Score, requests: Sequence[Request], truths: Sequence[str]
) -> float:
    """NDCG@10 of the truths among all items but those of each history, equal scores at their mean rank; NaN
    without requests."""
    total, start = 0.0, 0
    for batch in catalogue.batches(requests):
        targets = catalogue.rows(truths[start : start + len(batch)], "")
        seen = [catalogue.rows(request.history, request.user) for request in batch]
        total += ndcg_sum(np.array(score(batch)), seen, targets)
        start += len(batch)
    return total / len(requests) if requests else nan


def ndcg_sum(scores: np.ndarray, seen: list[list[int]], targets: list[int]) -> float:
    """Sum over requests of the NDCG@10 of the target items, seen items excluded, equal scores at their mean
    rank. `scores` [R, I] is changed."""
    rows = np.arange(len(scores))
    seen_rows = np.repeat(rows, [len(columns) for columns in seen])
    scores[seen_rows, np.concatenate(seen).astype(np.int64)] = -np.inf
    truth = scores[rows, targets][:, None]
    rank = 1 + np.count_nonzero(scores > truth, axis=1) + (np.count_nonzero(scores == truth, axis=1) - 1) / 2
    return float(np.where(rank <= 10, 1 / np.log2(rank + 1), 0.0).sum())
