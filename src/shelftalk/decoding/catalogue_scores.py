"""The log-probability of every item, by one walk over the whole trie, depth first.

Example: names "red scarf", "red hat" and "blue cap" (a token per word), 512 tokens at once. The root's state
scores "red" and "blue". "blue" is a leaf: its tail is decoded, scored and cropped. "red" is an inner node: it
is a branch, decoded next, and its state scores "scarf" and "hat", both whole names.

Legend: R requests, I items, N nodes, C children, H hidden width; scores are log-probabilities in nats.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from shelftalk.decoding.decoded_tree import PROMPT, DecodedTree
from shelftalk.decoding.item_trie import Trie
from shelftalk.decoding.settings import OVER_VOCABULARY, Softmax
from shelftalk.models.token_tree import Prefilled
from shelftalk.ragged import Ragged, slices


@dataclass(frozen=True, eq=False)
class _Branch:
    """Inner nodes of the trie that are still to be decoded, when `floor` tree nodes are left: `nodes` [N],
    the tree nodes of their parents `parents` [N], and `scores` [R, N], their last tokens included."""

    floor: int
    nodes: np.ndarray
    parents: np.ndarray
    scores: np.ndarray


def score_catalogue(
    prefilled: Prefilled, trie: Trie, tokens_per_call: int = 512, softmax: Softmax = OVER_VOCABULARY
) -> np.ndarray:
    """[R, I] float64: the log-probability of every item's whole name; each shared prefix is decoded once.

    At most `tokens_per_call` tokens are decoded after a prompt at once (a longer tail alone) and cropped
    before the next branch, so memory grows with the depth of the trie and not with the catalogue.
    """
    walk = _Walk(DecodedTree(prefilled, trie, softmax), trie, tokens_per_call)
    walk.run()
    return walk.item_scores


class _Walk:
    """One walk; all requests decode the same tokens."""

    def __init__(self, tree: DecodedTree, trie: Trie, tokens_per_call: int) -> None:
        self.tree, self.trie, self.tokens_per_call = tree, trie, tokens_per_call
        self.requests = len(tree.prompt_states)
        self.item_scores = np.full((self.requests, trie.items), np.nan)

    def run(self) -> None:
        """Fill `item_scores`."""
        root, prompt, zero = np.array([self.trie.root]), np.array([PROMPT]), np.zeros((self.requests, 1))
        stack = self._expand(root, prompt, zero, self.tree.prompt_states[:, None])
        while stack:
            branch = stack.pop()
            self.tree.crop(branch.floor)
            row, parents, tokens = self._for_all_requests(branch.parents, self.trie.tokens_to(branch.nodes))
            decoded = self.tree.decode(row, parents, Ragged(tokens, np.arange(len(tokens) + 1)))
            tree_nodes = decoded.nodes.values[: len(branch.nodes)]  # the same after every prompt
            stack += self._expand(
                branch.nodes, tree_nodes, branch.scores, decoded.states.unflatten(0, (self.requests, -1))
            )

    def _expand(
        self, nodes: np.ndarray, tree_nodes: np.ndarray, scores: np.ndarray, states: torch.Tensor
    ) -> list[_Branch]:
        """Score the children of `nodes` [N], of which tree nodes [N], scores [R, N] and states [R, N, H] are
        given. Leaves among them give item scores, inner nodes the branches that are returned."""
        # Every child's last token after its parent's state.
        origin, child = self.trie.children(nodes)
        state_index = (np.arange(self.requests)[:, None] * len(nodes) + origin).ravel()
        log_probs = self.tree.log_probs(states.flatten(0, 1), state_index, np.tile(child, self.requests))
        scores = scores[:, origin] + log_probs.reshape(self.requests, len(child))  # [R, C]
        parents = tree_nodes[origin]

        # Leaves: some are whole names, the others have a tail.
        is_leaf, is_whole = self.trie.is_leaf(child), self.tree.is_whole_name(child)
        self.item_scores[:, self.trie.items_at(child[is_whole])] = scores[:, is_whole]
        has_tail = is_leaf & ~is_whole
        self._score_tails(child[has_tail], parents[has_tail], scores[:, has_tail])

        # Inner nodes: decoded later, the last branch first.
        inner = np.flatnonzero(~is_leaf)
        chunks = (inner[chunk] for chunk in _chunks(np.ones(len(inner), np.int64), self.tokens_per_call))
        return [_Branch(self.tree.num_nodes, child[some], parents[some], scores[:, some]) for some in chunks]

    def _score_tails(self, leaves: np.ndarray, parents: np.ndarray, scores: np.ndarray) -> None:
        """Item scores of the leaves [N], of which scores [R, N] are given, chunk by chunk."""
        all_tails = self.tree.tails(leaves)
        for chunk in _chunks(all_tails.lengths, self.tokens_per_call):
            tails = slices(all_tails.values, all_tails.offsets[chunk], all_tails.offsets[chunk + 1])
            row, parent, tokens = self._for_all_requests(parents[chunk], self.trie.tokens_to(leaves[chunk]))
            tails = tails.take(np.tile(np.arange(len(chunk)), self.requests))
            added = self.tree.score_tails(row, parent, tokens, tails).reshape(self.requests, len(chunk))
            self.item_scores[:, self.trie.items_at(leaves[chunk])] = scores[:, chunk] + added

    def _for_all_requests(self, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
        """The row of the batch, and each column [N], for every request in turn: [R * N] each."""
        row = np.repeat(np.arange(self.requests), len(columns[0]))
        return row, *(np.tile(column, self.requests) for column in columns)


def _chunks(lengths: np.ndarray, tokens_per_call: int) -> Iterator[np.ndarray]:
    """Indices in order, in chunks of at most `tokens_per_call` tokens; a longer one is a chunk of its own:
    lengths [3, 2, 9, 1] with 5 -> [0, 1], [2], [3]."""
    start, total = 0, 0
    for index, length in enumerate(lengths.tolist()):
        if index > start and total + length > tokens_per_call:
            yield np.arange(start, index)
            start, total = index, 0
        total += length
    if len(lengths):
        yield np.arange(start, len(lengths))
