"""The exact log-probability of given items: all candidates of a request at once, over their shared prefixes.

Legend: R requests, C candidates, N inner nodes, V vocabulary; scores in nats.
"""

from __future__ import annotations

import numpy as np
import torch

from shelftalk.decoding.item_trie import ItemTrie
from shelftalk.models.backbone import Prefilled


def score_items(prefilled: Prefilled, trie: ItemTrie, candidates: np.ndarray) -> np.ndarray:
    """[R, C] float64: log-probability of each candidate's whole name behind each prompt.

    `candidates` [R, C] item numbers; -1 fills up a shorter row and scores -inf. The inner nodes of a request's candidates
    are grown in one call, each once, however many candidates share it.
    """
    paths = [[trie.path(item) if item >= 0 else [] for item in row] for row in candidates.tolist()]
    inner = [sorted({node for path in row for node in path[:-1]}) for row in paths]  # breadth-first numbers: parents come first
    width = max(map(len, inner))
    places = [{node: place for place, node in enumerate(nodes)} for nodes in inner]
    following = _grow(prefilled, trie, inner, places, width)  # [R, 1 + N, V]; row 0 is the prompt's end
    scores = np.full(candidates.shape, -np.inf)
    for row, row_paths in enumerate(paths):
        for column, path in enumerate(row_paths):
            if path:
                before = [0, *(1 + places[row][node] for node in path[:-1])]
                scores[row, column] = following[row, before, trie.token[path]].sum(dtype=np.float64)
    return scores


def _grow(prefilled: Prefilled, trie: ItemTrie, inner: list[list[int]], places: list[dict[int, int]], width: int) -> np.ndarray:
    """[R, 1 + N, V] float32: what may follow the prompt and each inner node; rows shorter than N are filled up idly."""
    start = prefilled.log_probs[:, None, :].cpu().numpy()
    if width == 0:
        return start
    parents = np.full((len(inner), width), -1)
    tokens = np.zeros((len(inner), width), np.int64)
    for row, nodes in enumerate(inner):
        parents[row, : len(nodes)] = [places[row].get(int(trie.parent[node]), -1) for node in nodes]
        tokens[row, : len(nodes)] = trie.token[nodes]
    device = prefilled.log_probs.device
    grown = prefilled.extend(torch.from_numpy(parents).to(device), torch.from_numpy(tokens).to(device))
    return np.concatenate([start, grown.cpu().numpy()], axis=1)
