"""The exact log-probability of given items: all candidates of a request at once, over their shared prefixes.

Example: the candidates "red scarf", "red hat" and "blue cap" of a catalogue without others (a token per
word). The inner node "red" is decoded once and gives the log-probabilities of "scarf" and "hat"; the prompt
gives those of "red" and of the leaf "blue", whose tail "cap" is decoded and cropped again:

    log p(red scarf) = log p(red) + log p(scarf | red)
    log p(blue cap)  = log p(blue) + log p(cap | blue)        the second term from the tail

Legend: R requests, C candidates, N prefixes of all requests, L leaves of all requests; scores in nats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from shelftalk.decoding.decoded_tree import PROMPT, DecodedTree
from shelftalk.decoding.item_trie import Trie
from shelftalk.decoding.settings import OVER_VOCABULARY, Softmax
from shelftalk.models.token_tree import Prefilled
from shelftalk.ragged import Ragged, rank_within_row

TAIL_TOKENS_PER_CALL = 512
"""Tokens of tails that are decoded after a prompt at once; they are cropped again, since no tail
needs another."""
CANDIDATES_AT_ONCE = 512
"""Candidates of a request that share their prefixes: the cost of a tree of tokens grows with the square of
its nodes."""


def score_items(
    prefilled: Prefilled, trie: Trie, candidates: np.ndarray, softmax: Softmax = OVER_VOCABULARY
) -> np.ndarray:
    """[R, C] float64: the log-probability of each candidate's whole name after each prompt.

    `candidates` [R, C] item numbers; -1 pads a shorter row and scores -inf. A prefix that several candidates
    of a request share is decoded once (once for every CANDIDATES_AT_ONCE of them in the order of the trie).
    """
    tree = DecodedTree(prefilled, trie, softmax)
    scores = np.full(candidates.shape, -np.inf)
    ranks = np.where(candidates >= 0, trie.ranks_of(np.maximum(candidates, 0)), trie.items)
    order = np.argsort(ranks, axis=1, kind="stable")  # neighbours share prefixes
    for start in range(0, order.shape[1], CANDIDATES_AT_ONCE):
        columns = order[:, start : start + CANDIDATES_AT_ONCE]
        request, position = np.nonzero(np.take_along_axis(candidates, columns, 1) >= 0)
        if len(request):
            chosen = request, columns[request, position]
            scores[chosen] = _score_leaves(tree, request, trie.leaves_of(candidates[chosen]))
            tree.crop(0)
    return scores


def candidate_table(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """[R, C] at least one row of item numbers, padded with -1."""
    table = np.full((len(rows), max(map(len, rows))), -1)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def _score_leaves(tree: DecodedTree, request: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    """[L] the log-probability of each leaf's whole name; requests ascend."""
    prefixes = _Prefixes(tree, request, leaf)
    scores = prefixes.log_probs(request, leaf)
    tails = tree.tails(leaf)
    has_tail = np.flatnonzero(tails.lengths > 0)
    if len(has_tail):
        request, leaf, tails = request[has_tail], leaf[has_tail], tails.take(has_tail)
        scores[has_tail] += _tail_scores(tree, request, leaf, prefixes.parents(request, leaf), tails)
    return scores


class _Prefixes:
    """The inner nodes above some leaves of each request, each decoded once.

    `keys` [N] are request * nodes + the node's position in the trie (`Trie.positions`), ascending, so that
    parents come first; `above` [N] is the index of each prefix's parent in `keys`, -1 for the prompt.
    """

    def __init__(self, tree: DecodedTree, request: np.ndarray, leaf: np.ndarray) -> None:
        # Collect the inner nodes, one level up per round.
        trie = self.trie = tree.trie
        requests, inner_nodes, node = [request[:0]], [leaf[:0]], trie.parents(leaf)
        while (inner := trie.parents(node) >= 0).any():
            requests.append(request[inner])
            inner_nodes.append(node[inner])
            node = np.where(inner, trie.parents(node), node)
        row, node = np.concatenate(requests), np.concatenate(inner_nodes)
        self.keys, first = np.unique(self._keys(row, node), return_index=True)
        row, node = row[first], node[first]
        self.above = self._index(row, trie.parents(node))

        # Decode them all in one call.
        self.tree_nodes, states = np.zeros(0, np.int64), tree.prompt_states
        if len(row):
            parent = np.where(self.above < 0, PROMPT, rank_within_row(row)[self.above])
            decoded = tree.decode(row, parent, Ragged(trie.tokens_to(node), np.arange(len(row) + 1)))
            self.tree_nodes, states = decoded.nodes.values, torch.cat([tree.prompt_states, decoded.states])

        # Score the last token of each.
        self.tree, self.states, self.prompts = tree, states, len(tree.prompt_states)
        self.last_log_probs = self._last_log_probs(row, node)

    def log_probs(self, request: np.ndarray, node: np.ndarray) -> np.ndarray:
        """[L] the log-probability of the path to each node, whose parent is a prefix or the prompt."""
        total, index = self._last_log_probs(request, node), self._index(request, self.trie.parents(node))
        while (inner := index >= 0).any():
            total[inner] += self.last_log_probs[index[inner]]
            index = np.where(inner, self.above[index], index)
        return total

    def parents(self, request: np.ndarray, node: np.ndarray) -> np.ndarray:
        """[L] the tree node of each node's parent."""
        index = self._index(request, self.trie.parents(node))
        if not len(self.tree_nodes):
            return np.full(len(index), PROMPT)
        return np.where(index < 0, PROMPT, self.tree_nodes[index])

    def _index(self, request: np.ndarray, node: np.ndarray) -> np.ndarray:
        """The index of each prefix in `keys`; -1 for the root."""
        if not len(self.keys):
            return np.full(len(node), -1)
        root = self.trie.parents(node) < 0
        return np.where(root, -1, np.searchsorted(self.keys, self._keys(request, node)))

    def _keys(self, request: np.ndarray, node: np.ndarray) -> np.ndarray:
        keys: np.ndarray = request * len(self.trie) + self.trie.positions(node)
        return keys

    def _last_log_probs(self, request: np.ndarray, node: np.ndarray) -> np.ndarray:
        """The log-probability of each node's token after the state of its parent."""
        above = self._index(request, self.trie.parents(node))
        state_index = np.where(above < 0, request, self.prompts + above)
        order = np.argsort(state_index, kind="stable")
        log_probs = np.empty(len(node))
        log_probs[order] = self.tree.log_probs(self.states, state_index[order], node[order])
        return log_probs


def _tail_scores(
    tree: DecodedTree, request: np.ndarray, leaf: np.ndarray, parent: np.ndarray, tails: Ragged
) -> np.ndarray:
    """[L] the log-probability of each tail after its leaf, whose parent is the tree node `parent`; requests
    ascend, no tail is empty. Call n decodes the tails that start among the tokens n * TAIL_TOKENS_PER_CALL
    and on of their request."""
    before = np.cumsum(tails.lengths) - tails.lengths
    before_in_request = before - before[np.searchsorted(request, request)]
    call = before_in_request // TAIL_TOKENS_PER_CALL
    scores = np.empty(len(leaf))
    for number in range(int(call.max()) + 1):
        some = np.flatnonzero(call == number)
        tokens = tree.trie.tokens_to(leaf[some])
        scores[some] = tree.score_tails(request[some], parent[some], tokens, tails.take(some))
    return scores
