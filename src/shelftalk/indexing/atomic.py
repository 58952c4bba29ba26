"""Items named by one symbol each: the shortest names there are, for catalogues that a vocabulary can hold.

Independent item indexing in the terms of Hua et al. (SIGIR-AP 2023), but for the start: each symbol comes
with a vector of the item's text and training co-occurrence, which initialises its embedding, so that similar
items start similar.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shelftalk import seeds
from shelftalk.data.similarity import co_occurrence
from shelftalk.data.splitting import Split
from shelftalk.indexing.item_index import IndexSettings, ItemIndex
from shelftalk.indexing.item_vectors import item_vectors


def build(
    split: Split, settings: IndexSettings, seed: int, text_vectors: np.ndarray | None = None
) -> ItemIndex:
    """Name each item "<i_0>" to "<i_3495>", drawn as one seeded permutation of the catalogue.

    `text_vectors` [I, D] of a sentence encoder replace TF-IDF in the symbols' vectors.
    """
    ids = split.dataset.item_ids
    numbers = seeds.generator(seed, "item numbers").permutation(len(ids))
    index = ItemIndex(
        "atomic", tuple(ids), tuple(f"<i_{number}>" for number in numbers), symbols=True, end=""
    )
    if not settings.start_vectors:
        return index
    vectors = item_vectors(
        split.dataset.items, co_occurrence(split, settings.co_occurrence_events), settings, seed, text_vectors
    )
    row_of = {name: row for row, name in enumerate(index.names)}
    return replace(index, symbol_vectors=vectors[np.array([row_of[symbol] for symbol in index.vocabulary])])
