"""aligned+prior: the language model's log-likelihoods combined with another recommender's scores, the weight
from validation.

    score(j) = (1 - w) log p_model(j) + w log p_prior(j)      over a pool of items, both scaled to sum to one in it

The pool holds the best items of either side, of those that may come back for the request. For ratings: (1 -
w) model + w prior. Legend: R requests, C pool items.
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
from shelftalk.recommender import ALIGNED_WITH_PRIOR, Rater, candidate_rows, check_items, check_k
from shelftalk.records import Ranking, Request

if TYPE_CHECKING:  # combining needs no tensor
    from shelftalk.decoding.language_model import LanguageModelRecommender

FLOOR = 1e-3
"""Share of a request's highest prior score that every item gets, so that no prior of zero forbids what the
model wants."""


@runtime_checkable
class Prior(Protocol):
    """A recommender, whose promises it keeps, with a score of at least 0 for every item."""

    name: str

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] in catalogue order, whatever may come back."""

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]: ...


@dataclass(frozen=True)
class Chosen:
    """A weight and the validation figure that it reached."""

    task: str
    weight: float
    metric: str
    value: float
    prior: str


@dataclass(eq=False)
class AlignedWithPrior:
    """The language model and its priors; `weights` holds what validation chose, by task.

    Raises SettingsError for a prior that does not score all items, or a rating prior that does not rate.
    """

    model: LanguageModelRecommender
    prior: Prior
    rating_prior: Rater | None
    settings: PriorSettings
    weights: dict[str, Chosen] = field(default_factory=dict)
    name: str = ALIGNED_WITH_PRIOR

    def __post_init__(self) -> None:
        if not isinstance(self.prior, Prior):
            raise SettingsError(
                f'prior.model = "{self.settings.model}" cannot be a prior, since it does not score every item (it lacks one of name, '
                'scores and recommend); name another model, such as "item_knn" or "popularity".'
            )
        if self.rating_prior is not None and not isinstance(self.rating_prior, Rater):
            raise SettingsError(
                f'prior.rating_model = "{self.settings.rating_model}" does not rate; name another model, such as "bias".'
            )

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]:
        """The k best items of the pool by the combined score. Raises as every recommender does, and as
        `Prior` scores are checked."""
        check_k(k)
        pools = self._pools(requests, k)
        return self._ranked(
            requests, pools, self._parts(requests, pools, "retrieval"), self._weight("retrieval"), k
        )

    def rank(self, requests: Sequence[Request]) -> list[Ranking]:
        """The candidates by the combined score."""
        rows = candidate_rows(requests, self.model.row_of)
        parts = self._parts(requests, rows, self.model.settings.ranking_prompt)
        return self._ranked(requests, rows, parts, self._weight("ranking"), max(map(len, rows), default=0))

    def rate(self, requests: Sequence[Request]) -> list[float]:
        """The weighted mean of both ratings."""
        weight = self._weight("rating")
        assert self.rating_prior is not None  # a weight was chosen for it
        check_items(requests, self.model.row_of, "rating")
        model, prior = np.array(self.model.rate(requests)), np.array(self.rating_prior.rate(requests))
        return ((1 - weight) * model + weight * prior).tolist()

    def choose(self, split: Split, tasks: Sequence[str], seed: int) -> AlignedWithPrior:
        """Choose each task's weight on validation; the smallest of equally good ones. Returns itself,
        finished."""
        if "retrieval" in tasks:
            requests, truths = self._drawn(*split.retrieval_requests("validation"), seed)
            pools = self._pools(requests, 20)
            self._choose_ranking(
                "retrieval", requests, truths, pools, self._parts(requests, pools, "retrieval")
            )
        if "ranking" in tasks:
            requests, truths = self._drawn(*split.ranking_requests("validation"), seed)
            rows = candidate_rows(requests, self.model.row_of)
            self._choose_ranking(
                "ranking",
                requests,
                truths,
                rows,
                self._parts(requests, rows, self.model.settings.ranking_prompt),
            )
        if "rating" in tasks and self.rating_prior is not None:
            self._choose_rating(*self._drawn(*split.rating_requests("validation"), seed))
        return self

    def describe(self) -> list[Chosen]:
        """What validation chose."""
        return list(self.weights.values())

    def selection(self) -> list[str]:
        """What validation chose, a sentence for each task."""
        return [
            f"{self.name}, {chosen.task}: weight {chosen.weight:g} of {chosen.prior} (validation {chosen.metric} "
            f"{chosen.value:.4f}; 0 is the language model alone, 1 the prior alone)."
            for chosen in self.describe()
        ]

    def _weight(self, task: str) -> float:
        """Raises UnknownPart for a task that validation chose no weight for, or whose prior is not there."""
        if task not in self.weights or (task == "rating" and self.rating_prior is None):
            raise UnknownPart(
                f'"{self.name}" has no weight of a prior for {task}; it has for: {", ".join(self.weights) or "none"}.'
            )
        return self.weights[task].weight

    def _pools(self, requests: Sequence[Request], k: int) -> list[list[int]]:
        """Catalogue rows that either side has among its best of what may come back, ascending; as many as k
        where k exist."""
        size = max(k, self.settings.pool)
        found = zip(self.model.recommend(requests, size), self.prior.recommend(requests, size), strict=True)
        return [
            sorted({self.model.row_of[item] for item in (*ours.items, *theirs.items)})
            for ours, theirs in found
        ]

    def _parts(
        self, requests: Sequence[Request], rows: Sequence[Sequence[int]], task: str
    ) -> list[np.ndarray]:
        """Per request [2, C]: log-probability of each pool item by model and by prior, each scaled to sum to
        one."""
        parts: list[np.ndarray] = []
        model = self.model.log_probs(requests, rows, task)
        for start in range(0, len(requests), 256):
            batch = self.prior.scores(requests[start : start + 256])
            for position, scores in enumerate(batch):
                pool = self._checked(scores[np.array(rows[start + position], np.int64)])
                known = np.log(pool + FLOOR * (pool.max(initial=0.0) or 1.0))
                parts.append(np.stack([_scaled(model[start + position]), _scaled(known)]))
        return parts

    def _checked(self, scores: np.ndarray) -> np.ndarray:
        """[C] float64. Raises SettingsError for scores that are no shares of anything: below 0, or no
        numbers."""
        if not (np.isfinite(scores) & (scores >= 0)).all():
            raise SettingsError(
                f'the scores of the prior "{self.prior.name}" hold a number below 0 or none at all, of which no probability can be '
                "made; let it return, for instance, exp(score)."
            )
        return scores.astype(np.float64)

    def _ranked(
        self,
        requests: Sequence[Request],
        rows: Sequence[Sequence[int]],
        parts: Sequence[np.ndarray],
        weight: float,
        k: int,
    ) -> list[Ranking]:
        ids = self.model.index.item_ids
        rankings = []
        for request, row, (model, prior) in zip(requests, rows, parts, strict=True):
            scores = _mixed(model, prior, weight)
            order = np.lexsort((np.array(row), -scores))[:k]
            rankings.append(
                Ranking(
                    request.user, tuple(ids[row[n]] for n in order.tolist()), tuple(scores[order].tolist())
                )
            )
        return rankings

    def _choose_ranking(
        self, task: str, requests: Any, truths: Sequence[str], rows: Any, parts: Sequence[np.ndarray]
    ) -> None:
        def ndcg(weight: float) -> float:
            rankings = self._ranked(requests, rows, parts, weight, 10)
            positions = (
                r.items.index(t) if t in r.items else None for r, t in zip(rankings, truths, strict=True)
            )
            return float(
                np.mean([0.0 if position is None else 1 / np.log2(position + 2) for position in positions])
            )

        values = {weight: ndcg(weight) for weight in self.settings.weights}
        best = max(values, key=values.__getitem__)
        self.weights[task] = Chosen(task, best, "ndcg@10", values[best], self.prior.name)

    def _choose_rating(self, requests: Sequence[Request], truths: Sequence[float]) -> None:
        assert self.rating_prior is not None
        model, prior = np.array(self.model.rate(requests)), np.array(self.rating_prior.rate(requests))
        errors = {
            w: float(np.sqrt((((1 - w) * model + w * prior - np.array(truths)) ** 2).mean()))
            for w in self.settings.weights
        }
        best = min(errors, key=errors.__getitem__)
        self.weights["rating"] = Chosen("rating", best, "rmse", errors[best], self.rating_prior.name)

    def _drawn(
        self, requests: Sequence[Request], truths: Sequence[Any], seed: int
    ) -> tuple[list[Request], list[Any]]:
        positions = seeds.generator(seed, "prior validation").permutation(len(requests))[
            : self.settings.validation_samples
        ]
        positions.sort()
        return [requests[position] for position in positions.tolist()], [
            truths[position] for position in positions.tolist()
        ]


def _scaled(log_weights: np.ndarray) -> np.ndarray:
    """[C] log-probabilities that sum to one; nothing where there is nothing."""
    return log_weights - np.logaddexp.reduce(log_weights)


def _mixed(model: np.ndarray, prior: np.ndarray, weight: float) -> np.ndarray:
    """[C] combined scores; a weight of 0 or 1 is one side alone, whatever the other says."""
    return model if weight == 0 else prior if weight == 1 else (1 - weight) * model + weight * prior
