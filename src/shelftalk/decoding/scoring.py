"""The exact log-probability of given items: all candidates of a request at once, over their shared prefixes.

Legend: R requests, C candidates, N prefixes of all requests; scores in nats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from shelftalk.decoding.decoded_tree import PROMPT, DecodedTree
from shelftalk.decoding.item_trie import Trie
from shelftalk.models.token_tree import Prefilled
from shelftalk.ragged import Ragged, rank_within_row

TAILS_AT_ONCE = 512
"""Tokens of tails that are said behind a prompt at once; tails do not need each other, so they are forgotten
in between."""
CANDIDATES_AT_ONCE = 512
"""Candidates of a request that share their prefixes; what a tree of tokens costs grows with the square of its
nodes."""


def score_items(prefilled: Prefilled, trie: Trie, candidates: np.ndarray) -> np.ndarray:
    """[R, C] float64: the log-probability of each candidate's whole name behind each prompt.

    `candidates` [R, C] item numbers; -1 fills up a shorter row and scores -inf. The prefixes that a request's
    candidates share are said once, however many candidates share them (once for every CANDIDATES_AT_ONCE of
    them in the order of the trie).
    """
    tree = DecodedTree(prefilled)
    scores = np.full(candidates.shape, -np.inf)
    ranks = np.where(candidates >= 0, trie.ranks_of(np.maximum(candidates, 0)), trie.items)
    order = np.argsort(ranks, axis=1, kind="stable")  # neighbours share prefixes
    for start in range(0, order.shape[1], CANDIDATES_AT_ONCE):
        columns = order[:, start : start + CANDIDATES_AT_ONCE]
        request, position = np.nonzero(np.take_along_axis(candidates, columns, 1) >= 0)
        if len(request):
            chosen = request, columns[request, position]
            scores[chosen] = _scored(tree, trie, request, trie.leaves_of(candidates[chosen]))
            tree.crop(0)
    return scores


def candidate_table(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """[R, C] rows of item numbers, at least one, filled up by -1."""
    table = np.full((len(rows), max(map(len, rows))), -1)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def _scored(tree: DecodedTree, trie: Trie, request: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    """[leaves] the log-probability of each name; requests ascend."""
    prefixes = _Prefixes(tree, trie, request, leaf)
    totals = prefixes.worth(request, leaf)
    tails = trie.tails(leaf)
    long = np.flatnonzero(tails.lengths > 0)
    if len(long):
        totals[long] += _tail_scores(
            tree,
            trie,
            request[long],
            leaf[long],
            prefixes.behind(request[long], leaf[long]),
            tails.take(long),
        )
    return totals


class _Prefixes:
    """The inner nodes above some leaves of each request, each said once. Keys are request * nodes + node,
    ascending; a parent's number is lower than its children's, so parents come first."""

    def __init__(self, tree: DecodedTree, trie: Trie, request: np.ndarray, leaf: np.ndarray) -> None:
        self.trie, self.nodes = trie, len(trie)
        keys, node = [np.zeros(0, np.int64)], trie.parents(leaf)
        while (inner := trie.parents(node) >= 0).any():
            keys.append((request * self.nodes + node)[inner])
            node = np.where(inner, trie.parents(node), node)
        self.keys = np.unique(np.concatenate(keys))
        row, node = np.divmod(self.keys, self.nodes)
        above = self._positions(row, trie.parents(node))  # [N] -1 for the prompt
        self.tree_nodes, states = np.zeros(0, np.int64), tree.prompt_states
        if len(row):
            parent = np.where(above < 0, PROMPT, rank_within_row(row)[above])
            decoded = tree.decode(row, parent, Ragged(trie.tokens_to(node), np.arange(len(row) + 1)))
            self.tree_nodes, states = decoded.nodes.values, torch.cat([tree.prompt_states, decoded.states])
        self.tree, self.states, self.prompts = tree, states, len(tree.prompt_states)
        self.step = self._steps(row, node)
        self.above = above

    def worth(self, request: np.ndarray, node: np.ndarray) -> np.ndarray:
        """[nodes] the log-probability of the paths down to nodes whose parents are among the prefixes."""
        total, at = self._steps(request, node), self._positions(request, self.trie.parents(node))
        while (inner := at >= 0).any():
            total[inner] += self.step[at[inner]]
            at = np.where(inner, self.above[at], at)
        return total

    def behind(self, request: np.ndarray, node: np.ndarray) -> np.ndarray:
        """[nodes] the tree node of each node's parent."""
        at = self._positions(request, self.trie.parents(node))
        return (
            np.where(at < 0, PROMPT, self.tree_nodes[at])
            if len(self.tree_nodes)
            else np.full(len(at), PROMPT)
        )

    def _positions(self, request: np.ndarray, node: np.ndarray) -> np.ndarray:
        """The place of each prefix in `keys`; -1 for a root."""
        if not len(self.keys):
            return np.full(len(node), -1)
        root = self.trie.parents(node) < 0
        return np.where(root, -1, np.searchsorted(self.keys, request * self.nodes + node))

    def _steps(self, request: np.ndarray, node: np.ndarray) -> np.ndarray:
        """[nodes] the log-probability of the token that leads to each node after the state of its parent."""
        above = self._positions(request, self.trie.parents(node))
        owner = np.where(above < 0, request, self.prompts + above)
        order = np.argsort(owner, kind="stable")
        found = np.empty(len(node))
        found[order] = self.tree.log_probs(self.states, owner[order], self.trie.tokens_to(node)[order])
        return found


def _tail_scores(
    tree: DecodedTree, trie: Trie, request: np.ndarray, leaf: np.ndarray, behind: np.ndarray, tails: Ragged
) -> np.ndarray:
    """[leaves] the log-probability of each tail behind its leaf; requests ascend, no tail is empty."""
    before = np.cumsum(tails.lengths) - tails.lengths
    part = (
        before - before[np.searchsorted(request, request)]
    ) // TAILS_AT_ONCE  # counted within each request
    totals = np.empty(len(leaf))
    for number in range(int(part.max()) + 1):
        here = np.flatnonzero(part == number)
        rows = tails.take(here)
        totals[here] = tree.score_tails(request[here], behind[here], trie.tokens_to(leaf[here]), rows)
    return totals
