"""What lists are like, whether or not they hold the relevant item: how much of the catalogue they show, how
popular, how alike and how close to the history's categories their items are. Of the first TOP items of each
list.

    coverage            share of the catalogue that is in at least one list                           [1]
    gini                how unequally the items of the catalogue are listed, 0 to (I - 1) / I         [2]
    novelty             mean of -log2(share of the training events) over the items, in bits           [3]
    popularity_lift     mean popularity of the listed items over that of the histories', minus 1      [4]
    similarity          mean TF-IDF cosine of two different items of a list, 0 to 1                   [5]
    calibration         Jensen-Shannon divergence, in bits, of the list's categories from those of
                        the history, 0 to 1                                                           [6]

Coverage and Gini index are facts of all lists together: they have no interval over users. The others are
means over users, or the ratio of two.

[1] Ge, Delgado-Battenfeld, Jannach, "Beyond accuracy: evaluating recommender systems by coverage and
serendipity", RecSys 2010. [2] Fleder, Hosanagar, "Blockbuster culture's next rise or fall: the impact of
recommender systems on sales diversity", Management Science 55(5), 2009. [3] Zhou, Kuscsik, Liu, Medo,
Wakeling, Zhang, "Solving the apparent diversity-accuracy dilemma of recommender systems", PNAS 107(10), 2010;
Vargas and Castells, RecSys 2011. [4] Abdollahpouri, Mansoury, Burke, Mobasher, "The connection between
popularity bias, calibration, and fairness in recommendation", RecSys 2020. [5] Ziegler, McNee, Konstan,
Lausen, "Improving recommendation lists through topic diversification", WWW 2005. [6] Steck, "Calibrated
recommendations", RecSys 2018, who measures the same distance by a smoothed Kullback-Leibler divergence; that
of Jensen and Shannon needs no constant where the list lacks a category, and is bounded.

Legend: R requests, I items, F text features, G categories, L listed items or items of histories.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from shelftalk.data.item_filter import SEPARATORS
from shelftalk.data.similarity import text_vectors
from shelftalk.data.splitting import Split
from shelftalk.records import Ranking, Request

TOP = 10
"""Items of a list that count; a shorter list counts with what it holds."""
BLOCK = 20_000
"""Requests whose texts and categories are added up at a time."""
RATIOS = {
    "novelty": ("novelty", None),
    "popularity_lift": ("popularity", "history_popularity"),
    "similarity": ("similarity", None),
    "calibration": ("calibration", None),
}
"""Metric -> the columns of the table of lists whose means it is the ratio of; None: the number of requests
that have a value."""
LIST_METRICS = tuple(f"{name}@{TOP}" for name in ("coverage", "gini", *RATIOS))
MEANINGS = {
    f"coverage@{TOP}": "share of the catalogue that is in at least one list; higher shows more of it",
    f"gini@{TOP}": "how unequally items are listed, from 0 (all as often) towards 1 (a few alone); lower is "
    "more even",
    f"novelty@{TOP}": "mean of -log2 of a listed item's share of the training interactions, in bits (an item "
    "never seen in training counts as seen once); higher is less known, which is neither good nor bad in "
    "itself",
    f"popularity_lift@{TOP}": "how much more popular the listed items are than those of the histories: 0 as "
    "popular, 1 twice as popular; nearest 0 follows the users' own taste",
    f"similarity@{TOP}": "mean cosine of the texts of two items of a list; lower is more varied, which is "
    "neither good nor bad in itself",
    f"calibration@{TOP}": "distance of the list's categories from those of the history, 0 (the same shares) "
    "to 1 (none in common); lower is better",
}
"""Metric -> what it means, and which direction is better, if one is."""


@dataclass(frozen=True, eq=False)
class Listed:
    """The first items of every list of one model: `rows` [L] catalogue rows, request by request, and
    `lengths` [R], at most TOP each."""

    rows: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True, eq=False)
class ListMeasures:
    """What all models' lists are measured by, made once: the catalogue, the training counts and the
    histories."""

    split: Split
    requests: Sequence[Request]

    def listed(self, rankings: Sequence[Ranking]) -> Listed:
        """The first TOP items of each list, as catalogue rows."""
        return self._rows([ranking.items[:TOP] for ranking in rankings])

    def table(self, listed: Listed, truths: Sequence[str]) -> pl.DataFrame:
        """One row per request: user, item (the truth), listed (how many items), and the means of RATIOS over
        the list and the history; null where there is nothing to take the mean of.

        A similarity needs two items with a text, a calibration a category on either side, and a popularity
        is compared where both list and history hold an item.
        """
        both = (listed.lengths > 0) & (self.histories.lengths > 0)
        popularity = self._mean(self.split.popularity, listed)
        columns = {
            "novelty": self._mean(self.information, listed),
            "popularity": np.where(both, popularity, np.nan),
            "history_popularity": np.where(both, self._mean(self.split.popularity, self.histories), np.nan),
            "similarity": self._similarity(listed),
            "calibration": self._calibration(listed),
        }
        return pl.DataFrame(
            {
                "user": [request.user for request in self.requests],
                "item": list(truths),
                "listed": listed.lengths,
                **columns,
            },
            schema_overrides={"user": pl.String, "item": pl.String, "listed": pl.Int64},
            nan_to_null=True,
        )

    def counts(self, listed: Listed) -> np.ndarray:
        """[I] int64: how many lists hold each item."""
        return np.bincount(listed.rows, minlength=len(self.split.dataset.items))

    @cached_property
    def histories(self) -> Listed:
        """All items of each request's history, as catalogue rows."""
        return self._rows([request.history for request in self.requests])

    @cached_property
    def information(self) -> np.ndarray:
        """[I] float64: -log2 of the item's share of the training events, at least one event each."""
        counts = self.split.popularity
        result: np.ndarray = -np.log2(np.maximum(counts, 1) / max(1, counts.sum()))
        return result

    @cached_property
    def texts(self) -> csr_matrix:
        """[I, F] float64 TF-IDF vectors, of length 1, or 0 without a word."""
        return text_vectors(self.split.dataset.items).astype(np.float64)

    @cached_property
    def categories(self) -> csr_matrix:
        """[I, G] float64: the distinct categories of each item in equal shares, which add up to 1; a row of
        zeros for an item without any."""
        numbers: dict[str, int] = {}
        rows, columns, values = [], [], []
        for row, text in enumerate(self.split.dataset.items["categories"].to_list()):
            labels = {" ".join(part.split()).casefold() for part in SEPARATORS.split(text or "")} - {""}
            for label in sorted(labels):
                rows.append(row)
                columns.append(numbers.setdefault(label, len(numbers)))
                values.append(1 / len(labels))
        shape = (len(self.split.dataset.items), len(numbers))
        return csr_matrix((np.array(values, np.float64), (rows, columns)), shape)

    @cached_property
    def _category_shares(self) -> list[csr_matrix]:
        """Block by block, [requests, G]: the categories of the histories."""
        return [_shares(chosen @ self.categories) for chosen in self._blocks(self.histories)]

    def _rows(self, lists: Sequence[Sequence[str]]) -> Listed:
        row_of = self.split.dataset.row_of
        lengths = np.fromiter((len(items) for items in lists), np.int64, len(lists))
        rows = np.fromiter((row_of[item] for items in lists for item in items), np.int64, lengths.sum())
        return Listed(rows, lengths)

    def _mean(self, values: np.ndarray, listed: Listed) -> np.ndarray:
        """[R] the mean of `values` [I] over each list, NaN for an empty one."""
        requests = np.repeat(np.arange(len(listed.lengths)), listed.lengths)
        sums = np.bincount(requests, values[listed.rows], minlength=len(listed.lengths))
        result: np.ndarray = np.divide(
            sums, listed.lengths, np.full(len(sums), np.nan), where=listed.lengths > 0
        )
        return result

    def _similarity(self, listed: Listed) -> np.ndarray:
        """[R]. Of m vectors of length 1 with the sum s, the m (m - 1) cosines of different ones add up to
        |s|^2 - m."""
        with_text = np.diff(self.texts.indptr) > 0
        values = []
        for chosen in self._blocks(listed):
            m = chosen @ with_text.astype(np.float64)
            square = (chosen @ self.texts).power(2).sum(axis=1).A1
            own = chosen @ self.texts.power(2).sum(axis=1).A1  # m, but for rounding
            pairs = m * (m - 1)
            values.append(np.divide(square - own, pairs, np.full(len(m), np.nan), where=pairs > 0))
        return np.clip(np.concatenate(values), 0.0, 1.0) if values else np.empty(0)

    def _calibration(self, listed: Listed) -> np.ndarray:
        """[R]. JS(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2, with H the entropy in bits."""
        values = []
        for chosen, p in zip(self._blocks(listed), self._category_shares, strict=True):
            q = _shares(chosen @ self.categories)
            divergence = _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2
            known = (np.diff(p.indptr) > 0) & (np.diff(q.indptr) > 0)
            values.append(np.where(known, np.clip(divergence, 0.0, 1.0), np.nan))
        return np.concatenate(values) if values else np.empty(0)

    def _blocks(self, listed: Listed) -> Iterator[csr_matrix]:
        """[requests, I] how often each list holds each item, BLOCK requests at a time."""
        offsets = np.concatenate([[0], np.cumsum(listed.lengths)])
        for start in range(0, len(listed.lengths), BLOCK):
            bounds = offsets[start : start + BLOCK + 1]
            rows = listed.rows[bounds[0] : bounds[-1]]
            cells = (np.ones(len(rows)), rows, bounds - bounds[0])
            yield csr_matrix(cells, shape=(len(bounds) - 1, len(self.split.dataset.items)))


def list_metrics(table: pl.DataFrame, counts: np.ndarray) -> dict[str, float]:
    """The metrics of one model's lists, from its rows of the saved table and how many lists hold each item
    [I] of the catalogue. One that nothing can be said about is left out."""
    values = {f"coverage@{TOP}": float((counts > 0).mean())} if len(counts) else {}
    if counts.sum():
        values[f"gini@{TOP}"] = gini(counts)
    sums = {name: _sums(table, name) for name in RATIOS}
    ratios = {name: _ratio(name, over, under) for name, (over, under) in sums.items() if under}
    return values | {f"{name}@{TOP}": ratio for name, ratio in ratios.items()}


def gini(counts: np.ndarray) -> float:
    """sum_i (2 i - I - 1) x_i / (I sum x) over the counts x_1 <= ... <= x_I: 0 where all are equal,
    (I - 1) / I where one item has everything. At least one count must be above 0."""
    ascending = np.sort(counts).astype(np.float64)
    number = len(ascending)
    return float((2 * np.arange(1, number + 1) - number - 1) @ ascending / (number * ascending.sum()))


def ratios_per_user(table: pl.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Metric -> [U] numerators and [U] denominators whose sums it is the ratio of, users in the order of
    their ids, for the metrics with a value; popularity_lift is that minus 1."""
    named = [name for name in RATIOS if _sums(table, name)[1]]
    columns = [
        expression.sum().alias(f"{name} {end}")
        for name in named
        for end, expression in zip(("over", "under"), _over_and_under(name), strict=True)
    ]
    # sorted before, as significance.sums_per_user
    users = table.sort("user", "item").group_by("user", maintain_order=True).agg(*columns)
    return {
        f"{name}@{TOP}": (users[f"{name} over"].to_numpy(), users[f"{name} under"].cast(float).to_numpy())
        for name in named
    }


def shifted(metric: str, value: float) -> float:
    """The metric, from the ratio of its sums."""
    return value - 1.0 if metric == f"popularity_lift@{TOP}" else value


def _over_and_under(name: str) -> tuple[pl.Expr, pl.Expr]:
    over, under = RATIOS[name]
    return pl.col(over), pl.col(under) if under else pl.col(over).is_not_null()


def _sums(table: pl.DataFrame, name: str) -> tuple[float, float]:
    over, under = table.select(*(end.sum().alias(str(n)) for n, end in enumerate(_over_and_under(name)))).row(
        0
    )
    return float(over), float(under)


def _ratio(name: str, over: float, under: float) -> float:
    return shifted(f"{name}@{TOP}", over / under)


def _shares(sums: csr_matrix) -> csr_matrix:
    """[requests, G] with rows that add up to 1, or of zeros."""
    shares = csr_matrix(sums)
    totals = shares.sum(axis=1).A1
    shares.data /= np.repeat(totals, np.diff(shares.indptr))
    return shares


def _entropy(shares: csr_matrix) -> np.ndarray:
    """[requests] -sum p log2 p, in bits."""
    terms = csr_matrix(shares, copy=True)
    terms.data = -terms.data * np.log2(terms.data)
    result: np.ndarray = terms.sum(axis=1).A1
    return result
