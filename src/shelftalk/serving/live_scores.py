"""A model that scores or rates every item of its catalogue, over a catalogue that changes: item_knn, a
student, the priors of a language model.

Such a model knows no item that joined after it was fitted. One gets the mean of the scores or ratings of the
trained items most similar to it by text, weighted by their cosines: an approximation that needs nothing of
the model. In histories it counts as nothing.

Legend: R requests, I trained items, L rows of the live catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shelftalk.data.item_filter import allowed
from shelftalk.data.text_space import TextSpace
from shelftalk.recommender import Rater, candidate_rows, check_items, check_k, without_text
from shelftalk.records import Ranking, Request
from shelftalk.serving.live_catalogue import LiveCatalogue, text_of


class LiveScores:
    """`scorer` has scores(requests) -> [R, I] in the order of the trained catalogue that `rows` began with;
    `texts` are that catalogue's."""

    def __init__(self, scorer: Any, rows: LiveCatalogue, texts: TextSpace) -> None:
        self.name: str = scorer.name
        self._scorer = scorer
        self._rows = rows
        self._texts = texts
        self._trained = trained_rows(rows)
        trained = getattr(scorer, "catalogue", None)
        # among equal scores the order of the model itself, then those that joined
        self._ties: np.ndarray = (
            np.arange(rows.trained_items) if trained is None else np.asarray(trained.tie_position)
        )
        self._nearest: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, L]."""
        known = [_of_items(request, self._trained) for request in requests]
        trained = np.asarray(self._scorer.scores(known), np.float64)
        dataset = self._rows.dataset
        new = range(self._rows.trained_items, len(dataset.item_ids))
        if not len(new):
            return trained
        columns = []
        for row in new:
            if row not in self._nearest:
                self._nearest[row] = self._texts.nearest(text_of(dataset.records[row]))
            rows, cosines = self._nearest[row]
            mean = trained[:, rows] @ (cosines / cosines.sum()) if len(rows) else trained.min(axis=1)
            columns.append(mean)
        return np.column_stack([trained, *columns])

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]:
        """As Recommender.recommend, of the visible items."""
        check_k(k)
        row_of = self._rows.dataset.row_of
        requests = [without_text(request) for request in requests]
        check_items(requests, row_of, "retrieval")
        if not requests:
            return []
        hidden = np.array(sorted(self._rows.hidden_rows), np.int64)
        rankings = []
        for request, scores in zip(requests, self.scores(requests), strict=True):
            scores[hidden] = -np.inf
            scores[[row_of[item] for item in (*request.history, *request.excluded)]] = -np.inf
            if request.filter is not None:
                scores[~allowed(self._rows.dataset.items, request.filter)] = -np.inf
            rankings.append(self._ranking(request, np.arange(len(scores)), scores, k))
        return rankings

    def rank(self, requests: Sequence[Request]) -> list[Ranking]:
        """As Ranker.rank."""
        requests = [without_text(request) for request in requests]
        rows = candidate_rows(requests, self._rows.dataset.row_of)
        return [
            self._ranking(request, np.array(row, np.int64), scores[np.array(row, np.int64)], len(row))
            for request, row, scores in zip(requests, rows, self.scores(requests), strict=True)
        ]

    def _ranking(self, request: Request, rows: np.ndarray, scores: np.ndarray, k: int) -> Ranking:
        ties = np.concatenate([self._ties, np.arange(len(self._ties), len(self._rows.dataset.item_ids))])
        order = np.lexsort((ties[rows], -scores))[:k]
        order = order[np.isfinite(scores[order])]
        items = tuple(self._rows.dataset.item_ids[row] for row in rows[order].tolist())
        return Ranking(request.user, items, tuple(scores[order].tolist()))


class LiveRatings:
    """`rater` has rate(requests) -> [R] for the items of the trained catalogue, as in LiveScores. An item
    that joined and shares no word with them gets the mean rating of SPREAD items of the whole catalogue."""

    SPREAD = 100

    def __init__(self, rater: Rater, rows: LiveCatalogue, texts: TextSpace) -> None:
        self.name: str = rater.name
        self._rater = rater
        self._rows = rows
        self._texts = texts
        self._trained = trained_rows(rows)
        self._ids = list(self._trained)

    def rate(self, requests: Sequence[Request]) -> list[float]:
        """As Rater.rate."""
        check_items(requests, self._rows.dataset.row_of, "rating")
        known, shares = list[Request](), list[np.ndarray]()
        for request in requests:
            stand_ins, weights = self._stand_ins(request.item)
            history = _of_items(request, self._trained)
            known += [replace(history, item=item) for item in stand_ins]
            shares.append(weights)
        ratings = np.array(self._rater.rate(known), np.float64)
        bounds = np.cumsum([0, *map(len, shares)])
        return [
            float(ratings[start:stop] @ weights)
            for start, stop, weights in zip(bounds, bounds[1:], shares, strict=False)
        ]

    def _stand_ins(self, item: str) -> tuple[list[str], np.ndarray]:
        """Trained items whose weighted mean the item's rating is: itself, where it is one."""
        if item in self._trained:
            return [item], np.ones(1)
        dataset = self._rows.dataset
        rows, cosines = self._texts.nearest(text_of(dataset.records[dataset.row_of[item]]))
        if not len(rows):
            rows = np.unique(np.linspace(0, len(self._ids) - 1, self.SPREAD).astype(np.int64))
            cosines = np.ones(len(rows))
        return [self._ids[row] for row in rows.tolist()], cosines / cosines.sum()


def trained_rows(rows: LiveCatalogue) -> dict[str, int]:
    """Item -> row, of the catalogue that was there at the beginning."""
    return {item: row for item, row in rows.dataset.row_of.items() if row < rows.trained_items}


def _of_items(request: Request, items: Mapping[str, int]) -> Request:
    """The history of a request, of these items alone."""
    kept = [position for position, item in enumerate(request.history) if item in items]
    history = tuple(request.history[position] for position in kept)
    ratings = tuple(request.ratings[position] for position in kept) if request.ratings else ()
    return replace(request, history=history, ratings=ratings, filter=None, excluded=(), candidates=())
