"""aligned+prior: the language model's log-likelihoods combined with another recommender's scores, with a
weight w chosen on validation.

    score(j)  = (1 - w) log p_model(j) + w log p_prior(j)
    rating    = (1 - w) model + w prior

p_model and p_prior sum to one over a pool of items: the best of either that may come back for the request.
The prior sees the item ids of a history, and of a `Text` in it what the language model reads in its place
(LanguageModelRecommender.without_words), or nothing.

Legend: R requests, I items, C pool items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from shelftalk import seeds
from shelftalk.data.splitting import Split
from shelftalk.decoding.settings import PriorSettings
from shelftalk.errors import SettingsError, UnknownPart
from shelftalk.log_linear import log_scores
from shelftalk.recommender import (
    ALIGNED_WITH_PRIOR,
    Rater,
    candidate_rows,
    check_items,
    check_k,
    explanation,
    without_text,
)
from shelftalk.records import Explanation, Ranking, Request

if TYPE_CHECKING:  # combining needs no tensor
    from shelftalk.decoding.language_model import LanguageModelRecommender

SCORED_AT_ONCE = 256
"""Requests of which the prior scores the whole catalogue at once."""


@runtime_checkable
class Prior(Protocol):
    """A Recommender that also has a score of at least 0 for every item."""

    name: str

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] in catalogue order, excluded items too."""

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]: ...


@dataclass(frozen=True)
class ChosenWeight:
    """A weight and the validation metric that it reached."""

    task: str
    weight: float
    metric: str
    value: float
    prior: str


@dataclass(eq=False)
class AlignedWithPrior:
    """The language model and its priors; `weights` holds those that validation chose, by task.

    Raises SettingsError for a prior that does not score all items, or a rating prior that does not rate.
    """

    model: LanguageModelRecommender
    prior: Prior
    rating_prior: Rater | None
    settings: PriorSettings
    weights: dict[str, ChosenWeight] = field(default_factory=dict)
    name: str = ALIGNED_WITH_PRIOR

    def __post_init__(self) -> None:
        if not isinstance(self.prior, Prior):
            raise SettingsError(
                f'prior.model = "{self.settings.model}" cannot be a prior, since it does not score every '
                'item (it lacks one of name, scores and recommend); name another model, such as "item_knn" '
                'or "popularity".'
            )
        if self.rating_prior is not None and not isinstance(self.rating_prior, Rater):
            raise SettingsError(
                f'prior.rating_model = "{self.settings.rating_model}" does not rate; name another model, '
                'such as "bias".'
            )

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]:
        """The k best items of the pool by the combined score. Raises as every recommender does, and
        SettingsError for scores of the prior that are no finite number of at least 0."""
        check_k(k)
        pools = self._pools(requests, k)
        log_probs = self._log_probs(requests, pools, "retrieval")
        return self._ranked(requests, pools, log_probs, self._weight("retrieval"), k)

    def rank(self, requests: Sequence[Request]) -> list[Ranking]:
        """The candidates by the combined score."""
        rows = candidate_rows(requests, self.model.row_of, reads_text=True)
        log_probs = self._log_probs(requests, rows, self.model.settings.ranking_prompt)
        longest = max(map(len, rows), default=0)
        return self._ranked(requests, rows, log_probs, self._weight("ranking"), longest)

    def rate(self, requests: Sequence[Request]) -> list[float]:
        """The weighted mean of both ratings."""
        weight = self._weight("rating")
        assert self.rating_prior is not None  # a weight was chosen for it
        check_items(requests, self.model.row_of, "rating", reads_text=True)
        model, prior = (
            np.array(self.model.rate(requests)),
            np.array(self.rating_prior.rate(self._of_ids(requests))),
        )
        result: list[float] = ((1 - weight) * model + weight * prior).tolist()
        return result

    def similar(self, item: str, k: int) -> Ranking:
        """As the language model finds them: see LanguageModelRecommender.similar."""
        return self.model.similar(item, k)

    def why(self, history: Sequence[str], item: str) -> Explanation:
        """By how much the item's combined score falls without each entry, over one pool for all: that of the
        whole history, and the item. So the score is that of `recommend`, up to a `k` of `settings.pool`."""

        def scores_of(requests: list[Request]) -> list[float]:
            check_items(requests, self.model.row_of, "rating", reads_text=True)
            row = self.model.row_of[item]
            pool = sorted({*self._pools(requests[:1], 0)[0], row})
            log_probs = self._log_probs(requests, [pool] * len(requests), "retrieval")
            weight, position = self._weight("retrieval"), pool.index(row)
            return [float(_combined(model, prior, weight)[position]) for model, prior in log_probs]

        return explanation(history, item, scores_of)

    def choose(self, split: Split, tasks: Sequence[str], seed: int) -> AlignedWithPrior:
        """Choose each task's weight on validation; the smallest of equally good ones. Returns itself."""
        if "retrieval" in tasks:
            requests, truths = self._sampled(*split.retrieval_requests("validation"), seed)
            pools = self._pools(requests, 20)
            log_probs = self._log_probs(requests, pools, "retrieval")
            self._choose_by_ndcg("retrieval", requests, truths, pools, log_probs)
        if "ranking" in tasks:
            requests, truths = self._sampled(*split.ranking_requests("validation"), seed)
            rows = candidate_rows(requests, self.model.row_of, reads_text=True)
            log_probs = self._log_probs(requests, rows, self.model.settings.ranking_prompt)
            self._choose_by_ndcg("ranking", requests, truths, rows, log_probs)
        if "rating" in tasks and self.rating_prior is not None:
            self._choose_by_rmse(*self._sampled(*split.rating_requests("validation"), seed))
        return self

    def describe(self) -> list[ChosenWeight]:
        """The weights that validation chose."""
        return list(self.weights.values())

    def selection(self) -> list[str]:
        """The weights that validation chose, a sentence for each task."""
        return [
            f"{self.name}, {chosen.task}: weight {chosen.weight:g} of {chosen.prior} (validation "
            f"{chosen.metric} {chosen.value:.4f}; 0 is the language model alone, 1 the prior alone)."
            for chosen in self.describe()
        ]

    def _weight(self, task: str) -> float:
        """Raises UnknownPart for a task without a chosen weight, or without a prior."""
        if task not in self.weights or (task == "rating" and self.rating_prior is None):
            raise UnknownPart(
                f'"{self.name}" has no weight of a prior for {task} (it has for: '
                f"{', '.join(self.weights) or 'none'}); ask the language model alone, or `choose` one for it."
            )
        return self.weights[task].weight

    def _pools(self, requests: Sequence[Request], k: int) -> list[list[int]]:
        """Catalogue rows of the best items of the model and of the prior, ascending: at least k where k items
        may come back."""
        size = max(k, self.settings.pool)
        of_model = self.model.recommend(requests, size)
        of_prior = self.prior.recommend(self._of_ids(requests), size)
        return [
            sorted({self.model.row_of[item] for item in (*best.items, *best_by_prior.items)})
            for best, best_by_prior in zip(of_model, of_prior, strict=True)
        ]

    def _of_ids(self, requests: Sequence[Request]) -> list[Request]:
        """What a prior is asked: it knows items by their ids alone."""
        return [without_text(request) for request in self.model.without_words(requests)]

    def _log_probs(
        self, requests: Sequence[Request], rows: Sequence[Sequence[int]], task: str
    ) -> list[np.ndarray]:
        """Per request [2, C]: the log-probability of each pool item by the model and by the prior, each
        normalised over the pool."""
        log_probs: list[np.ndarray] = []
        of_model = self.model.log_probs(requests, rows, task)
        for start in range(0, len(requests), SCORED_AT_ONCE):
            batch = self.prior.scores(self._of_ids(requests[start : start + SCORED_AT_ONCE]))
            for number, scores in enumerate(batch, start):
                pool = self._checked(scores[np.array(rows[number], np.int64)])
                log_probs.append(np.stack([_normalised(of_model[number]), _normalised(log_scores(pool))]))
        return log_probs

    def _checked(self, scores: np.ndarray) -> np.ndarray:
        """[C] float64. Raises SettingsError for scores below 0 or not finite."""
        if not (np.isfinite(scores) & (scores >= 0)).all():
            raise SettingsError(
                f'the scores of the prior "{self.prior.name}" hold a number below 0 or none at all, of which '
                "no probability can be made; let it return, for instance, exp(score)."
            )
        return scores.astype(np.float64)

    def _ranked(
        self,
        requests: Sequence[Request],
        rows: Sequence[Sequence[int]],
        log_probs: Sequence[np.ndarray],
        weight: float,
        k: int,
    ) -> list[Ranking]:
        ids = self.model.index.item_ids
        rankings = []
        for request, row, (model, prior) in zip(requests, rows, log_probs, strict=True):
            scores = _combined(model, prior, weight)
            order = np.lexsort((np.array(row), -scores))[:k]
            items = tuple(ids[row[index]] for index in order.tolist())
            rankings.append(Ranking(request.user, items, tuple(scores[order].tolist())))
        return rankings

    def _choose_by_ndcg(
        self,
        task: str,
        requests: Sequence[Request],
        truths: Sequence[str],
        rows: Sequence[Sequence[int]],
        log_probs: Sequence[np.ndarray],
    ) -> None:
        def mean_ndcg(weight: float) -> float:
            rankings = self._ranked(requests, rows, log_probs, weight, 10)
            gains = [
                1 / np.log2(ranking.items.index(truth) + 2) if truth in ranking.items else 0.0
                for ranking, truth in zip(rankings, truths, strict=True)
            ]
            return float(np.mean(gains))

        values = {weight: mean_ndcg(weight) for weight in self.settings.weights}
        best = max(values, key=values.__getitem__)
        self.weights[task] = ChosenWeight(task, best, "ndcg@10", values[best], self.prior.name)

    def _choose_by_rmse(self, requests: Sequence[Request], truths: Sequence[float]) -> None:
        assert self.rating_prior is not None
        model, prior = np.array(self.model.rate(requests)), np.array(self.rating_prior.rate(requests))

        def rmse(weight: float) -> float:
            errors = (1 - weight) * model + weight * prior - np.array(truths)
            return float(np.sqrt((errors**2).mean()))

        errors = {weight: rmse(weight) for weight in self.settings.weights}
        best = min(errors, key=errors.__getitem__)
        self.weights["rating"] = ChosenWeight("rating", best, "rmse", errors[best], self.rating_prior.name)

    def _sampled(
        self, requests: Sequence[Request], truths: Sequence[Any], seed: int
    ) -> tuple[list[Request], list[Any]]:
        """`validation_samples` of the requests with their truths, drawn by seed, in their order."""
        order = seeds.generator(seed, "prior validation").permutation(len(requests))
        positions = sorted(order[: self.settings.validation_samples].tolist())
        return [requests[position] for position in positions], [truths[position] for position in positions]


def _normalised(log_weights: np.ndarray) -> np.ndarray:
    """[C] log-probabilities whose probabilities sum to one; empty where C is 0."""
    result: np.ndarray = log_weights - np.logaddexp.reduce(log_weights)
    return result


def _combined(model: np.ndarray, prior: np.ndarray, weight: float) -> np.ndarray:
    """[C] combined scores; with a weight of 0 or 1 those of one alone, even where the other's
    are infinite."""
    return model if weight == 0 else prior if weight == 1 else (1 - weight) * model + weight * prior
