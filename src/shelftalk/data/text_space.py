"""Texts of a catalogue as vectors, and other texts in the same features: what is most similar to words.

Legend: I items, F text features.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from shelftalk.data.similarity import fitted_text_vectors, strongest

NEIGHBOURS = 20
"""Most similar items from which something new is made."""


class TextSpace:
    """Texts of a catalogue (see `item_texts`) as TF-IDF vectors, and other texts in the same features."""

    def __init__(self, items: pl.DataFrame) -> None:
        self._vectorizer, self.vectors = fitted_text_vectors(items)
        self._features = csr_matrix(self.vectors.T)

    def vector(self, text: str) -> csr_matrix:
        """[1, F] of unit length, zeros without a known word."""
        if self._vectorizer is None:
            return csr_matrix((1, 0), dtype=np.float32)
        return csr_matrix(self._vectorizer.transform([text]))

    def nearest(self, text: str, number: int = NEIGHBOURS) -> tuple[np.ndarray, np.ndarray]:
        """Catalogue rows of the most similar items, most similar first, and their cosines above 0."""
        return _nearest(csr_matrix(self.vector(text) @ self._features), number)

    def nearest_others(
        self, rows: np.ndarray, number: int = NEIGHBOURS
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each of these catalogue rows the most similar other ones, see `nearest`."""
        cosines = csr_matrix(self.vectors[rows] @ self._features)
        similar = []
        for position, row in enumerate(rows.tolist()):
            similar.append(_nearest(csr_matrix(cosines[position]), number, row))
        return similar


def _nearest(cosine: csr_matrix, number: int, itself: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """The columns of the largest values above 0 of one row, but for `itself`, and the values."""
    best = strongest(cosine.indices, cosine.data, number, itself)
    return cosine.indices[best].astype(np.int64), cosine.data[best].astype(np.float64)
