"""Beam search inside the item trie: valid, distinct, unseen items always.

Vectorised over requests and beams: the prompt is read once per request, each beam carries its trie node, and a beam is a node
of the tree that the backbone grows behind the prompt. Legend: R requests, B beams, C children, V vocabulary; scores in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from shelftalk.decoding.item_trie import ItemTrie
from shelftalk.errors import IllegalMove
from shelftalk.models.backbone import Prefilled


@dataclass
class _Beams:
    """[R, B] each: trie node, tree node behind the prompt (-1: the prompt's end) and score; -inf marks an empty place."""

    trie_node: np.ndarray
    tree_node: np.ndarray
    score: np.ndarray


def beam_search(prefilled: Prefilled, trie: ItemTrie, hidden: np.ndarray, beams: int) -> tuple[np.ndarray, np.ndarray]:
    """The best `beams` items per request by the sum of their token log-probabilities.

    `hidden` [R, I] bool: items that must not come back (seen, out of stock). Returns items [R, B] int64 (-1 where fewer
    than B items are live) and scores [R, B] float64, best first; equal scores stand in catalogue order (among
    those found: which of them a narrow search keeps is settled by trie node).
    Raises IllegalMove should a result not be a live, distinct item.
    """
    live = trie.live(hidden)
    requests = len(hidden)
    state = _Beams(np.zeros((requests, 1), np.int64), np.full((requests, 1), -1), np.where(live[:, :1], 0.0, -np.inf))
    following = prefilled.log_probs[:, None, :].cpu().numpy()  # [R, B, V] what may follow each beam
    grown = 0
    while True:
        state = _expand(state, following, trie, live, beams)
        inner = trie.leaf_item[state.trie_node] < 0
        if not (inner & (state.score > -np.inf)).any():
            break
        parents = torch.from_numpy(state.tree_node)
        tokens = torch.from_numpy(np.maximum(trie.token[state.trie_node], 0).astype(np.int64))
        device = prefilled.log_probs.device
        following = prefilled.extend(parents.to(device), tokens.to(device)).cpu().numpy()
        state.tree_node = np.broadcast_to(grown + np.arange(parents.shape[1]), parents.shape).copy()
        grown += parents.shape[1]
    items = np.where(state.score > -np.inf, trie.leaf_item[state.trie_node], -1).astype(np.int64)
    _verify(items, hidden)
    order = np.lexsort((items, -state.score))  # along the last axis
    return np.take_along_axis(items, order, axis=1), np.take_along_axis(state.score, order, axis=1)


def _expand(state: _Beams, following: np.ndarray, trie: ItemTrie, live: np.ndarray, beams: int) -> _Beams:
    """One step: every beam that stands at a leaf stays, every other one gives way to its live children; the best B remain."""
    row, beam = np.nonzero(state.score > -np.inf)
    node = state.trie_node[row, beam]
    first, count = trie.first_child[node], trie.first_child[node + 1] - trie.first_child[node]
    done = count == 0
    origin = np.repeat(np.arange(len(node)), np.where(done, 1, count))  # [C] which beam each candidate comes from
    offset = np.arange(len(origin)) - np.repeat(
        np.cumsum(np.where(done, 1, count)) - np.where(done, 1, count), np.where(done, 1, count)
    )
    child = np.where(done[origin], node[origin], first[origin] + offset)
    r, b = row[origin], beam[origin]
    step = np.where(done[origin], 0.0, following[r, b, trie.token[child]])
    score = state.score[r, b] + step
    kept = live[r, child]
    return _best(r[kept], child[kept], state.tree_node[r, b][kept], score[kept], len(state.score), beams)


def _best(row: np.ndarray, node: np.ndarray, tree: np.ndarray, score: np.ndarray, requests: int, beams: int) -> _Beams:
    """The best B candidates of each request, best first; equal scores by trie node."""
    order = np.lexsort((node, -score, row))
    row, node, tree, score = row[order], node[order], tree[order], score[order]
    starts = np.searchsorted(row, np.arange(requests))
    place = np.arange(len(row)) - starts[row]
    kept = place < beams
    width = int(place[kept].max()) + 1 if kept.any() else 1
    best = _Beams(np.zeros((requests, width), np.int64), np.full((requests, width), -1), np.full((requests, width), -np.inf))
    at = row[kept], place[kept]
    best.trie_node[at], best.tree_node[at], best.score[at] = node[kept], tree[kept], score[kept]
    return best


def _verify(items: np.ndarray, hidden: np.ndarray) -> None:
    """Asserted here, in the code path, and not only in tests."""
    for row, found in enumerate(items):
        real = found[found >= 0]
        if len(np.unique(real)) < len(real) or hidden[row, real].any():
            raise IllegalMove(
                f"request {row}: the search returned an item twice or a hidden one; please report this as a defect."
            )
