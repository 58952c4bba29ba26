"""One vector per item: catalogue text beside training co-occurrence. Legend: I items, D
dimensions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from shelftalk import seeds
from shelftalk.data.similarity import text_vectors
from shelftalk.indexing.item_index import IndexSettings


def item_vectors(
    items: pl.DataFrame,
    co_occurrence: csr_matrix,
    settings: IndexSettings,
    seed: int,
    encoded: np.ndarray | None = None,
) -> np.ndarray:
    """[I, up to 2 D] float32: text and co-occurrence [I, I] vectors side by side, each of unit length before
    weighting.

    Text vectors are TF-IDF unless `encoded` [I, any] gives those of a sentence encoder, zeros for an item
    without text.
    """
    texts = text_vectors(items) if encoded is None else _centred(encoded)
    text = dense_vectors(texts, settings.dimensions, seed, "text")
    together = dense_vectors(co_occurrence, settings.dimensions, seed, "co-occurrence")
    weight = settings.text_weight
    return np.hstack([np.sqrt(weight) * text, np.sqrt(1 - weight) * together]).astype(np.float32)


def dense_vectors(matrix: csr_matrix | np.ndarray, dimensions: int, seed: int, purpose: str) -> np.ndarray:
    """[I, D]: truncated singular vectors, rows scaled to unit length; a row of zeros stays zero."""
    return fitted_dense_vectors(matrix, dimensions, seed, purpose)[0]


def fitted_dense_vectors(
    matrix: csr_matrix | np.ndarray, dimensions: int, seed: int, purpose: str
) -> tuple[np.ndarray, Callable[[csr_matrix], np.ndarray]]:
    """The `dense_vectors`, and the function that makes them of other rows [N, any] on the same axes."""
    wanted = min(dimensions, min(matrix.shape) - 1)
    if wanted < 1 or abs(matrix).max() == 0:
        return np.zeros((matrix.shape[0], 1)), lambda rows: np.zeros((rows.shape[0], 1))
    state = seeds.number(seed, "svd", purpose) % 2**31
    from sklearn.decomposition import TruncatedSVD  # slow to load, and needed where an index is made alone

    fitted = TruncatedSVD(wanted, random_state=state)
    return _of_unit_length(fitted.fit_transform(matrix)), lambda rows: _of_unit_length(fitted.transform(rows))


def _of_unit_length(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: np.ndarray = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-9)
    return result


def _centred(encoded: np.ndarray) -> np.ndarray:
    """Minus the mean of those that are not zero: all vectors of a sentence encoder share a direction without
    information (Mu and Viswanath, "All-but-the-top", ICLR 2018)."""
    known = (encoded != 0).any(axis=1)
    if not known.any():
        return encoded
    return np.where(known[:, None], encoded - encoded[known].mean(axis=0), 0)
