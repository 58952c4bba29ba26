"""fusion: the scores of several baselines combined by a weighted mean of their logarithms (see log_linear),
the weights chosen on validation.

What another baseline adds without a language model: the rival that "aligned+prior" has to be held against.

Legend: R requests, I items, M models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isclose, nan
from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import Field, model_validator

from shelftalk.baselines.scored_catalogue import ItemScorer, ScoredCatalogue, scored_catalogue
from shelftalk.baselines.validation import (
    VALIDATION_USERS,
    Choice,
    Chosen,
    choose,
    ndcg_sum,
    validation_sample,
)
from shelftalk.data.splitting import Split
from shelftalk.errors import SettingsError
from shelftalk.log_linear import log_scores
from shelftalk.recommender import Repeatable
from shelftalk.records import Request
from shelftalk.settings import Settings

NAME = "fusion"


class FusionSettings(Settings):
    """Which baselines are combined, and which weights are tried."""

    models: tuple[str, ...] = Field(("item_knn", "slist"), min_length=2, max_length=4)
    """Two to four baselines that score every item."""
    weights: tuple[tuple[Annotated[float, Field(ge=0, le=1)], ...], ...] = ()
    """The weights to try, one for each model in a row; (): all that are multiples of `step` and sum to 1."""
    step: float = Field(0.1, gt=0, le=0.5)
    """Distance of the weights that are tried."""
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings by model; those of one that is not named here are in [baselines.NAME]."""
    validation_users: int = Field(VALIDATION_USERS, ge=1)
    """Validation users at most, drawn by seed."""

    @model_validator(mode="after")
    def _weights_fit_the_models(self) -> FusionSettings:
        for row in self.weights:
            if len(row) != len(self.models) or not isclose(sum(row), 1, abs_tol=1e-6):
                raise ValueError(
                    f"the weights {list(row)} are not one for each of {len(self.models)} models with a sum "
                    "of 1; give such rows, or leave weights out"
                )
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # a dict has no hash


class Scorer(Protocol):
    """A model that scores every item."""

    name: str

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] in catalogue order, none below 0."""


@dataclass(frozen=True, eq=False)
class Fusion(Chosen, ItemScorer):
    """The models and the weights [M] of their log-scores."""

    catalogue: ScoredCatalogue
    models: tuple[Scorer, ...]
    weights: tuple[float, ...]
    choice: Choice[FusionSettings]
    name: str = NAME

    def item_scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] float32, below 0 too; a model of weight 0 is not asked. Raises UnknownItem for an id
        outside the catalogue."""
        total = np.zeros((len(requests), len(self.catalogue.item_ids)), np.float32)
        for model, weight in zip(self.models, self.weights, strict=True):
            if weight > 0:
                total += np.float32(weight) * _log_scores(model, requests)
        return total

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] the exponentials of `item_scores`, the best item's 1."""
        scores = self.item_scores(requests)
        result: np.ndarray = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
        return result

    def chosen_settings(self) -> FusionSettings:
        """The weights, and the models' own settings, with which this fit is repeated without choosing."""
        settings = self.choice.settings
        chosen = {
            name: model.chosen_settings().model_dump(mode="json")
            for name, model in zip(settings.models, self.models, strict=True)
            if isinstance(model, Repeatable)
        }
        return settings.model_copy(update={"settings": {**settings.settings, **chosen}})

    def chosen_words(self) -> str:
        """The weight of each model."""
        named = zip(self.models, self.weights, strict=True)
        return ", ".join(f"weight {weight:g} of {model.name}" for model, weight in named)

    def describe(self) -> dict[str, float]:
        """The weight of each model, and the metric reached on validation."""
        reached = {name: value for name, value in super().describe().items() if name.startswith("validation")}
        return {f"weight of {m.name}": w for m, w in zip(self.models, self.weights, strict=True)} | reached


def fuse(split: Split, models: Sequence[Scorer], settings: FusionSettings, seed: int) -> Fusion:
    """The models, with the weights of best NDCG@10 on validation; of equally good ones the first. A single
    row of weights is taken without reading the validation part.

    Raises NothingLeft where several are tried and nothing is held out to choose by, and SettingsError for a
    model that does not score every item.
    """
    for name, model in zip(settings.models, models, strict=True):
        if not hasattr(model, "scores"):
            raise SettingsError(
                f'baselines.fusion.models names "{name}", which does not score every item; leave it out, or '
                "give it a method scores(requests) that returns a number of at least 0 for each item."
            )
    catalogue, tried = scored_catalogue(split), tuple(_tried(settings))
    requests, truths = validation_sample(split, settings.validation_users, seed, NAME)
    totals, start = np.zeros(len(tried)), 0
    for batch in catalogue.batches(requests) if len(tried) > 1 else ():
        targets = catalogue.rows(truths[start : start + len(batch)], "")
        seen = [catalogue.rows(request.history, request.user) for request in batch]
        start += len(batch)
        logs = [_log_scores(model, batch) for model in models]
        for number, weights in enumerate(tried):
            mixed = sum(np.float32(weight) * log for weight, log in zip(weights, logs, strict=True))
            totals[number] += ndcg_sum(np.asarray(mixed), seen, targets)
    means = totals / len(requests) if start else np.full(len(tried), nan)
    by_weights = {
        settings.model_copy(update={"weights": (weights,)}): mean
        for weights, mean in zip(tried, means.tolist(), strict=True)
    }
    choice = choose(NAME, ("weights",), by_weights, "ndcg@10")
    return Fusion(catalogue, tuple(models), choice.settings.weights[0], choice)


def _log_scores(model: Scorer, requests: Sequence[Request]) -> np.ndarray:
    """[R, I] float32."""
    return log_scores(np.array(model.scores(requests), np.float32))


def _tried(settings: FusionSettings) -> Iterator[tuple[float, ...]]:
    """The rows of weights that are given, or all multiples of the step whose sum is 1."""
    if settings.weights:
        yield from settings.weights
        return
    steps = round(1 / settings.step)
    yield from (tuple(count / steps for count in counts) for counts in _sums_to(steps, len(settings.models)))


def _sums_to(total: int, terms: int) -> Iterator[tuple[int, ...]]:
    """All tuples of `terms` whole numbers whose sum is `total`."""
    if terms == 1:
        yield (total,)
        return
    for first in range(total + 1):
        yield from ((first, *rest) for rest in _sums_to(total - first, terms - 1))
