"""How alike two items are: by their texts, and by who took both. Read by indexing, tasks and item_knn.

Both matrices stand in catalogue order. The first is made of the catalogue alone, the second of training events alone.

Legend: I items, F text features, U users.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix, diags
from sklearn.feature_extraction.text import TfidfVectorizer

from shelftalk.data.splitting import Split

TEXT_COLUMNS = ("title", "brand", "categories")


def text_vectors(items: pl.DataFrame) -> csr_matrix:
    """TF-IDF vectors of title, brand and categories: 1-2-grams, sublinear counts, length 1.

    Returns [I, F] float32, features in alphabetical order, so that the product of two rows is their cosine. An item
    without a word gets a row of zeros; a catalogue without a word gets F = 0.
    """
    texts = [" ".join(filter(None, row)) for row in items.select(TEXT_COLUMNS).iter_rows()]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, norm="l2", dtype=np.float32)
    words = vectorizer.build_analyzer()
    if not any(words(text) for text in texts):  # the vectorizer refuses an empty vocabulary
        return csr_matrix((len(texts), 0), dtype=np.float32)
    return csr_matrix(vectorizer.fit_transform(texts))


def co_occurrence(split: Split) -> csr_matrix:
    """Cosine of items by their training users: C[i, j] / sqrt(C[i, i] C[j, j]), where C[i, j] counts users of both.

    Returns [I, I] float32 with a diagonal of zeros; the row of an item never seen in training is zero. As item-item
    similarity: Sarwar, Karypis, Konstan, Riedl, "Item-based collaborative filtering recommendation algorithms", WWW 2001.
    """
    shape = (len(split.dataset.user_ids), len(split.dataset.items))
    ones = np.ones(len(split.training_items), np.float64)
    taken = csr_matrix((ones, (split.training_users, split.training_items)), shape)  # [U, I]
    together = csr_matrix(taken.T @ taken)  # [I, I]
    users = together.diagonal()  # [I]
    scale = diags(1.0 / np.sqrt(np.maximum(users, 1.0)))
    together.setdiag(0.0)
    together.eliminate_zeros()
    together = csr_matrix(scale @ together @ scale, dtype=np.float32)
    together.sort_indices()
    return together
