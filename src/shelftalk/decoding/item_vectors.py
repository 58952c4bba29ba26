"""Vectors of items as a language model has them, and the nearest of them.

Legend: I items, H hidden width, S symbols.
"""

from __future__ import annotations

import numpy as np
import torch

from shelftalk.indexing.item_index import ItemIndex, split_symbols
from shelftalk.models.backbone import Backbone
from shelftalk.ragged import ragged


@torch.no_grad()
def symbol_vectors(backbone: Backbone, index: ItemIndex) -> np.ndarray:
    """[I, H] float32: the mean of the input embeddings of each name's symbols; where the last of them only
    numbers the items of one code, without it."""
    dropped = int(index.has_last_level)
    token_of = backbone.text_encoder.symbol_ids
    names = [split_symbols(name) for name in index.names]
    tokens = ragged([token_of[symbol] for symbol in name[: max(1, len(name) - dropped)]] for name in names)
    embeddings = backbone.model.get_input_embeddings().weight.float()
    values = torch.from_numpy(tokens.values).to(embeddings.device)
    starts = torch.from_numpy(tokens.offsets[:-1]).to(embeddings.device)
    means = torch.nn.functional.embedding_bag(values, embeddings, starts, mode="mean")
    result: np.ndarray = means.cpu().numpy()
    return result


def centred_unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """[I, H] float32: without their mean, and of length 1; a vector of zeros stays one."""
    centred = vectors - vectors.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    result: np.ndarray = np.divide(centred, lengths, where=lengths > 0, out=np.zeros_like(centred))
    return result


def nearest(vectors: np.ndarray, row: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """([k], [k]) the other rows of the highest cosine to `vectors[row]`, and the cosines, highest first; of
    equal ones the lowest rows."""
    cosines = vectors @ vectors[row]
    cosines[row] = -np.inf
    k = min(int(k), len(cosines) - 1)
    threshold = np.partition(cosines, len(cosines) - k)[len(cosines) - k] if k else np.inf
    rows = np.flatnonzero(cosines >= threshold)
    best = rows[np.lexsort((rows, -cosines[rows]))[:k]]
    return best, cosines[best]
