"""Items named by semantic codes: residual k-means over text and training co-occurrence vectors.

After TIGER (Rajput et al., NeurIPS 2023), with k-means in place of the residual-quantised autoencoder, and
with co-occurrence beside the text, so that items taken by the same users get similar codes. Legend: I items,
D dimensions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shelftalk.data.similarity import co_occurrence
from shelftalk.data.splitting import Split
from shelftalk.indexing.clustering import k_means
from shelftalk.indexing.item_index import IndexSettings, ItemIndex, with_last_level
from shelftalk.indexing.item_vectors import item_vectors

LETTERS = "abcdefghijklmnopqrstuvwxy"  # one per level; z is the level that numbers collisions


def build(
    split: Split, settings: IndexSettings, seed: int, text_vectors: np.ndarray | None = None
) -> ItemIndex:
    """Name each item "<a_12><b_7><z_0>": one symbol per level, the last one numbering the items that share
    the others.

    The order within a collision is catalogue order, a seeded hash. Only catalogue texts and training events
    are read. A symbol's vector is its cluster's centre; the last level's symbols have no meaning by
    themselves and get zeros. `text_vectors` [I, D] of a sentence encoder replace TF-IDF.
    """
    vectors = item_vectors(
        split.dataset.items, co_occurrence(split, settings.co_occurrence_events), settings, seed, text_vectors
    )
    codes, centres = residual_codes(vectors, settings.levels, settings.codes, seed)
    stems = [
        "".join(f"<{LETTERS[level]}_{code}>" for level, code in enumerate(row)) for row in codes.tolist()
    ]
    index = ItemIndex("semantic", tuple(split.dataset.item_ids), with_last_level(stems), symbols=True, end="")
    if not settings.start_vectors:
        return index
    start = {
        f"<{LETTERS[level]}_{code}>": row
        for level, rows in enumerate(centres)
        for code, row in enumerate(rows)
    }
    zeros = np.zeros(vectors.shape[1], np.float32)
    return replace(index, symbol_vectors=np.stack([start.get(symbol, zeros) for symbol in index.vocabulary]))


def residual_codes(
    vectors: np.ndarray, levels: int, codes: int, seed: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """[I, levels] int codes and, per level, [codes, D] float32 centres: each level clusters the residuals
    of those before it."""
    residuals, labels, centres = vectors.astype(np.float64), [], []
    for level in range(levels):
        fitted = k_means(residuals, codes, seed, level)
        labels.append(fitted.labels_)
        centres.append(fitted.cluster_centers_.astype(np.float32))
        residuals = residuals - fitted.cluster_centers_[fitted.labels_]
    return np.stack(labels, axis=1), centres
