"""How similar two items are: by their texts, and by who took both. Read by indexing, tasks and item_knn.

All matrices are in catalogue order. That of texts is made of the catalogue alone, the others of training
events alone.

Legend: I items, F text features, U users.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from shelftalk.data.splitting import Split

if TYPE_CHECKING:  # it takes most of a second to load, which a service that starts need not wait for
    from sklearn.feature_extraction.text import TfidfVectorizer

TEXT_COLUMNS = ("title", "brand", "categories")
BLOCK_CELLS = 5_000_000
"""Similarities that are computed at a time: 60 MB."""
COMMON_WORD = 20_000
"""Items that may share a word by which similar ones are found: the cost is the square of their number, and a
word of more items says little about any of them."""
COUNTED_EVENTS = 3000
"""Most recent training events of one user that count in co-occurrence: its cells are the square of a history,
and the 50,000 items of a guest account would take tens of gigabytes and reveal nothing about taste."""
CELL_BYTES = 24
"""Approximate memory per cell of co-occurrence while it is computed."""


def item_texts(items: pl.DataFrame) -> list[str]:
    """[I] title, brand and categories of each item, "" where it has none of them."""
    return [" ".join(filter(None, row)) for row in items.select(TEXT_COLUMNS).iter_rows()]


def text_vectors(items: pl.DataFrame) -> csr_matrix:
    """TF-IDF vectors of title, brand and categories: 1-2-grams, sublinear counts, length 1.

    Returns [I, F] float32, features in alphabetical order, so that the product of two rows is their cosine.
    An item without a word has a row of zeros; a catalogue without a word has F = 0.
    """
    return fitted_text_vectors(items)[1]


def fitted_text_vectors(items: pl.DataFrame) -> tuple[TfidfVectorizer | None, csr_matrix]:
    """The `text_vectors` and what makes them of texts (see `item_texts`), in the same features, so that items
    that join later can be compared; None for a catalogue without a word."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = item_texts(items)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, norm="l2", dtype=np.float32)
    terms = vectorizer.build_analyzer()
    if not any(terms(text) for text in texts):  # the vectorizer refuses an empty vocabulary
        return None, csr_matrix((len(texts), 0), dtype=np.float32)
    return vectorizer, csr_matrix(vectorizer.fit_transform(texts))


def shared_users(split: Split, events: int = COUNTED_EVENTS) -> csr_matrix:
    """[I, I] float64: how many users took both items in training; on the diagonal, how many took the one. Of
    each user the most recent `events` training events count, so that there are at most `events` cells per
    training event."""
    shape = (len(split.dataset.user_ids), len(split.dataset.items))
    counted = np.flatnonzero(_events_after(split) < events)
    ones = np.ones(len(counted), np.float64)
    pairs = split.training_users[counted], split.training_items[counted]
    taken = csr_matrix((ones, pairs), shape)  # [U, I]
    return csr_matrix(taken.T @ taken)


def not_counted(split: Split, events: int, setting: str) -> list[str]:
    """A sentence where `shared_users` leaves events out, with the setting that would count them; none where
    it counts all."""
    lengths = np.bincount(split.training_users, minlength=1)
    users = int((lengths > events).sum())
    if not users:
        return []
    user, most = split.dataset.user_ids[int(lengths.argmax())], int(lengths.max())
    cells = min((lengths.astype(float) ** 2).sum(), float(len(split.dataset.items)) ** 2)
    return [
        f"Co-occurrence counts the most recent {events:,} training events of a user alone, and {users:,} of "
        f'{len(lengths):,} users have more (user "{user}" has {most:,}); to count them all, set '
        f"{setting} = {most}, which may take {CELL_BYTES * cells / 1e9:.1f} GB."
    ]


def _events_after(split: Split) -> np.ndarray:
    """[E] for each training event, how many of the same user come after it."""
    order = np.argsort(split.training_users, kind="stable")
    ends = np.cumsum(np.bincount(split.training_users, minlength=1))
    after = np.empty(len(order), np.int64)
    after[order] = ends[split.training_users[order]] - 1 - np.arange(len(order))
    return after


def co_occurrence(split: Split, events: int = COUNTED_EVENTS) -> csr_matrix:
    """Cosine of items by their training users: C[i, j] / sqrt(C[i, i] C[j, j]), where C[i, j] counts users of
    both.

    Returns [I, I] float32 with a diagonal of zeros; the row of an item never seen in training is zero. As
    item-item similarity: Sarwar, Karypis, Konstan, Riedl, "Item-based collaborative filtering recommendation
    algorithms", WWW 2001. `events`: see `shared_users`.
    """
    together = shared_users(split, events)
    users = together.diagonal()  # [I]
    scale = 1.0 / np.sqrt(np.maximum(users, 1.0))
    together.setdiag(0.0)
    together.eliminate_zeros()
    # in place: each copy of the cells may take gigabytes
    together.data *= np.repeat(scale, np.diff(together.indptr))
    together.data *= scale[together.indices]
    cells = together.data.astype(np.float32), together.indices, together.indptr
    cosine = csr_matrix(cells, together.shape)
    cosine.sort_indices()
    return cosine


def transition_counts(split: Split, within: int = 1) -> csr_matrix:
    """[I, I] float64: how often the column came after the row in training histories, n steps later counted as
    1 / n, up to `within` steps."""
    size = len(split.dataset.items)
    users, items = split.training_users, split.training_items
    counts = csr_matrix((size, size), dtype=np.float64)
    for steps in range(1, within + 1):
        follows = np.flatnonzero(users[steps:] == users[:-steps])
        weights = np.full(len(follows), 1 / steps)
        counts += csr_matrix((weights, (items[follows], items[follows + steps])), (size, size))
    return counts


def nearest_by_text(items: pl.DataFrame, number: int) -> np.ndarray:
    """[I, number] int64 catalogue rows of the items most similar to each by text (see `text_vectors`), the
    most similar first; of equally similar ones those that are first in the catalogue.

    Padded with -1 where fewer items have a word in common. A word of more than COMMON_WORD items is none: all
    that have it would be compared with each other. Only catalogue texts are read.
    """
    vectors = text_vectors(items)
    common = np.flatnonzero(np.diff(csr_matrix(vectors.T).indptr) > COMMON_WORD)
    if len(common):
        vectors.data[np.isin(vectors.indices, common)] = 0.0
        vectors.eliminate_zeros()
    features = csr_matrix(vectors.T)
    nearest = np.full((vectors.shape[0], number), -1, np.int64)
    for start, stop in _blocks(_cells(vectors, features)):
        cosine = csr_matrix(vectors[start:stop] @ features)  # [block, I], only where a word is shared
        for row in range(start, stop):
            first, last = cosine.indptr[row - start : row - start + 2]
            columns = cosine.indices[first:last]
            best = columns[strongest(columns, cosine.data[first:last], number, row)]
            nearest[row, : len(best)] = best
    return nearest


def _cells(vectors: csr_matrix, features: csr_matrix) -> np.ndarray:
    """[I] at most how many similarities an item has: the items of each of its words."""
    per_word = np.diff(features.indptr)[vectors.indices]
    sums = np.concatenate([[0], np.cumsum(per_word)])
    result: np.ndarray = sums[vectors.indptr[1:]] - sums[vectors.indptr[:-1]]
    return result


def _blocks(cells: np.ndarray) -> Iterator[tuple[int, int]]:
    """Consecutive rows, start and stop, with at most BLOCK_CELLS cells together, or one row with more."""
    start, held = 0, 0
    for row, number in enumerate(cells.tolist()):
        if held and held + number > BLOCK_CELLS:
            yield start, row
            start, held = row, 0
        held += number
    if len(cells):
        yield start, len(cells)


def strongest(columns: np.ndarray, values: np.ndarray, number: int, itself: int = -1) -> np.ndarray:
    """Positions in a sparse row of its `number` highest values above 0, without the column `itself`, highest
    first; of equal values the lowest columns, since partial sorting alone would order them differently on
    different processors."""
    kept = np.flatnonzero((values > 0) & (columns != itself))
    if len(kept) > number:
        least = np.partition(values[kept], len(kept) - number)[len(kept) - number]
        kept = kept[values[kept] >= least]
    best: np.ndarray = kept[np.lexsort((columns[kept], -values[kept]))[:number]]
    return best
