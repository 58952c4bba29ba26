"""From a score for every item to rankings: what all baselines that score the whole catalogue share.

Legend: R requests, I items.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import polars as pl

from shelftalk.data.item_filter import allowed
from shelftalk.data.splitting import Split
from shelftalk.errors import UnknownItem
from shelftalk.recommender import check_items, check_k, explanation
from shelftalk.records import Explanation, Ranking, Request

Score = Callable[[Sequence[Request]], np.ndarray]  # requests -> [R, I], higher is better
CELLS = 1_000_000
"""Scores computed at a time, whatever the number of requests: 4 MB of float32, which fit into the cache."""


@dataclass(frozen=True, eq=False)
class ScoredCatalogue:
    """The catalogue, and the order in which equal scores are listed.

    `items`: the catalogue frame of a Dataset. `tie_order` [I] catalogue rows: most training events first,
    then catalogue order. It decides among equal scores only; for a request whose scores are all equal it is
    the whole ranking.
    """

    items: pl.DataFrame
    tie_order: np.ndarray

    @cached_property
    def item_ids(self) -> list[str]:
        """[I] item ids in catalogue order."""
        return self.items["item_id"].to_list()

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Item id -> catalogue row."""
        return {item: row for row, item in enumerate(self.item_ids)}

    @cached_property
    def tie_position(self) -> np.ndarray:
        """[I] the position of a catalogue row in `tie_order`."""
        return np.argsort(self.tie_order)

    def rows(self, items: Sequence[str], user: str) -> list[int]:
        """Catalogue rows. Raises UnknownItem for an id that is not in the catalogue."""
        try:
            return [self.row_of[item] for item in items]
        except KeyError as error:
            raise UnknownItem(
                f'item "{error.args[0]}" in the request of user "{user}" is not in the catalogue; '
                "add it to the items file or leave it out of the request."
            ) from None

    def batches(self, requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
        """The requests in order, as many at a time as have at most CELLS scores."""
        size = max(1, CELLS // max(1, len(self.item_ids)))
        return (requests[start : start + size] for start in range(0, len(requests), size))

    def recommend(self, score: Score, requests: Sequence[Request], k: int) -> list[Ranking]:
        """The k best items that pass each request's filter, without its history and excluded items; fewer
        where fewer are left."""
        check_k(k)
        check_items(requests, self.row_of, "retrieval")
        rankings: list[Ranking] = []
        for batch in self.batches(requests):
            scores = score(batch)[:, self.tie_order]  # [R, I] columns in tie order; the indexing copies
            for request, row in zip(batch, scores, strict=True):
                if request.filter is not None:
                    row[~allowed(self.items, request.filter)[self.tie_order]] = -np.inf
                excluded = self.rows((*request.history, *request.excluded), request.user)
                row[self.tie_position[excluded]] = -np.inf
            rankings += [self._best(request.user, row, k) for request, row in zip(batch, scores, strict=True)]
        return rankings

    def rank(self, score: Score, requests: Sequence[Request]) -> list[Ranking]:
        """All candidates of each request, best first. Raises UnknownItem as every ranker does."""
        check_items(requests, self.row_of, "ranking")
        rankings: list[Ranking] = []
        for batch in self.batches(requests):
            rankings += [
                self._candidates(request, row) for request, row in zip(batch, score(batch), strict=True)
            ]
        return rankings

    def _best(self, user: str, scores: np.ndarray, k: int) -> Ranking:
        """`scores` [I] in tie order, -inf where excluded. A stable sort keeps that order for ties."""
        k = min(k, len(scores))
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k] if k else np.inf
        at_least = np.flatnonzero((scores >= threshold) & (scores > -np.inf))
        best = at_least[np.argsort(-scores[at_least], kind="stable")[:k]]
        return Ranking(user, self._ids(self.tie_order[best]), tuple(scores[best].tolist()))

    def _candidates(self, request: Request, scores: np.ndarray) -> Ranking:
        rows = np.array(self.rows(request.candidates, request.user), np.int64)
        best = rows[np.lexsort((self.tie_position[rows], -scores[rows]))]
        return Ranking(request.user, self._ids(best), tuple(scores[best].tolist()))

    def _ids(self, rows: np.ndarray) -> tuple[str, ...]:
        return tuple(self.item_ids[row] for row in rows.tolist())


class ItemScorer(Protocol):
    """A recommender and ranker made of one score per item: a baseline subclasses it and defines
    `item_scores`."""

    catalogue: ScoredCatalogue

    @abstractmethod
    def item_scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] in catalogue order, higher is better, items of the history too. Raises UnknownItem for an id
        outside the catalogue."""

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I], none below 0, as a prior needs: `item_scores`, where what is below 0 says nothing."""
        result: np.ndarray = np.maximum(self.item_scores(requests), 0)
        return result

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]:
        """The k best eligible items. Raises UnknownItem and UnknownLabel as every recommender does."""
        return self.catalogue.recommend(self.item_scores, requests, k)

    def rank(self, requests: Sequence[Request]) -> list[Ranking]:
        """The candidates by score. Raises UnknownItem for an id outside the catalogue."""
        return self.catalogue.rank(self.item_scores, requests)

    def similar(self, item: str, k: int) -> Ranking:
        """The k best items after a history of that item alone. Raises as every model that finds similar items
        does."""
        return self.recommend([Request("", (item,))], k)[0]

    def why(self, history: Sequence[str], item: str) -> Explanation:
        """By how much the item's score falls without each entry. Raises UnknownItem."""

        def scores_of(requests: list[Request]) -> list[float]:
            check_items(requests, self.catalogue.row_of, "rating")
            row = self.catalogue.row_of[item]
            batches = self.catalogue.batches(requests)
            return [float(score) for batch in batches for score in self.item_scores(batch)[:, row]]

        return explanation(history, item, scores_of)


def scored_catalogue(split: Split) -> ScoredCatalogue:
    """The split's catalogue, with ties in the order of training popularity."""
    return ScoredCatalogue(split.dataset.items, np.argsort(-split.popularity, kind="stable"))
