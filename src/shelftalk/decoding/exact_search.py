"""The true top k by best-first search: the log-probability of a prefix bounds that of every name below it.

Example: names "red scarf", "red hat" and "blue cap" (a token per word), k = 1, log-probabilities in brackets.

    expand the root     frontier: red [-1.0], blue [-0.9]
    step, one token     decode the best, blue, a leaf: result "blue cap" [-2.9], which is now the bound
    step, one token     decode red [-1.0], above the bound; its children are whole names, red scarf [-1.2] and
                        red hat [-1.5]: the bound is -1.2, the frontier is empty, "red scarf" is proven

Legend: R requests, N prefixes of all requests, A of them inner nodes, H hidden width; scores are
log-probabilities in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from shelftalk.decoding.decoded_tree import (
    COMPACT_AT,
    PROMPT,
    TOKENS_PER_CALL,
    Columns,
    DecodedTree,
    advance,
)
from shelftalk.decoding.exclusions import Exclusions
from shelftalk.decoding.item_trie import Trie
from shelftalk.decoding.settings import OVER_VOCABULARY, Softmax
from shelftalk.decoding.top_items import TopItems, kth_score_per_row, top_items, top_k_per_row
from shelftalk.models.token_tree import Prefilled


@dataclass(frozen=True, eq=False)
class ExactTopItems(TopItems):
    """`proven` [R] bool: whether the search ended before it met its limit, so that the result is the true top
    k. `tokens_decoded` [R]: after each prompt."""

    proven: np.ndarray
    tokens_decoded: np.ndarray


@dataclass
class _Frontier(Columns):
    """[N] each: prefixes whose last token has not been decoded yet."""

    row: np.ndarray
    """The request's row in the batch."""
    node: np.ndarray
    """The trie node."""
    parent: np.ndarray
    """Tree node of the trie node's parent."""
    score: np.ndarray
    """Log-probability of the prefix, its last token included: no name below it has a higher one."""


@dataclass
class _Results(Columns):
    """[N] each: whole names that have been scored, the best k of each request, best first."""

    request: np.ndarray
    item: np.ndarray
    score: np.ndarray


def exact_top(
    prefilled: Prefilled,
    trie: Trie,
    exclusions: Exclusions,
    k: int,
    tokens_per_call: int = TOKENS_PER_CALL,
    limit: int = 0,
    softmax: Softmax = OVER_VOCABULARY,
) -> ExactTopItems:
    """The k items of the highest log-probability per request, by best-first search (Hart, Nilsson and
    Raphael, 1968, with the partial log-probability as the bound): a prefix that is worse than the k-th result
    is never decoded.

    `tokens_per_call`: tokens that are decoded at once after a prompt, the best prefixes first; it changes the
    cost alone. `limit`: how many tokens may be decoded after a prompt before no further call is made, 0 for
    no limit; where it is met, the result is the best so far and not `proven`. `softmax`: what a token's
    probability is over.
    """
    tree = DecodedTree(prefilled, trie, softmax)
    search = _BestFirstSearch(tree, trie, exclusions, k, tokens_per_call, limit)
    while search.is_running:
        search.step()
    results = search.results
    top = top_items(exclusions, results.request, results.item, results.score, k)
    return ExactTopItems(top.items, top.scores, search.proven, search.tokens_decoded)


class _BestFirstSearch:
    """One search: the frontier, the results so far, and as the bound the k-th best of them per request."""

    def __init__(
        self, tree: DecodedTree, trie: Trie, exclusions: Exclusions, k: int, tokens_per_call: int, limit: int
    ) -> None:
        self.tree, self.trie, self.exclusions = tree, trie, exclusions
        self.k, self.tokens_per_call, self.limit = k, tokens_per_call, limit
        self.requests = np.arange(exclusions.requests)  # the request of each row of the batch
        self.bound = np.full(exclusions.requests, -np.inf)  # [R] score of the k-th result
        self.proven = np.ones(exclusions.requests, bool)
        self.tokens_decoded = np.zeros(exclusions.requests, np.int64)
        none = np.zeros(0, np.int64)
        self.results = _Results(none, none, np.zeros(0))
        self.frontier = _Frontier(none, none, none, np.zeros(0))
        rows = np.flatnonzero((exclusions.num_allowed() > 0) & (k > 0))
        prompt = np.full(len(rows), PROMPT)
        root = _Frontier(rows, np.full(len(rows), trie.root), prompt, np.zeros(len(rows)))
        self._expand(root, prompt, tree.prompt_states[torch.from_numpy(rows)])

    @property
    def is_running(self) -> bool:
        return len(self.frontier.row) > 0

    def step(self) -> None:
        """Decode the best prefixes of each request, as much as fits into one call: leaves give results, inner
        nodes are expanded."""
        # Take the best off the frontier.
        frontier = self.frontier
        best = top_k_per_row(frontier.row, frontier.score, frontier.node, self.tokens_per_call)
        prefixes = frontier.take(best)
        advanced = advance(self.tree, prefixes.row, prefixes.node, prefixes.parent, self.tokens_per_call)
        leaves, inner = prefixes.take(advanced.leaves), prefixes.take(advanced.inner)
        rest = np.ones(len(frontier.row), bool)
        rest[best[advanced.leaves]] = rest[best[advanced.inner]] = False
        self.frontier = frontier.filter(rest)

        # A name's score is its leaf's and that of each token of its tail.
        tails = advanced.tail_log_probs
        np.add.at(self.tokens_decoded, self.requests[inner.row], 1)
        np.add.at(self.tokens_decoded, self.requests[leaves.row], tails.lengths)
        tail_scores = np.bincount(tails.row_ids, tails.values, len(tails))
        self._add_results(leaves.row, leaves.node, leaves.score + tail_scores)

        self._expand(inner, advanced.inner_tree_nodes, advanced.inner_states)

    def _expand(self, inner: _Frontier, tree_nodes: np.ndarray, states: torch.Tensor) -> None:
        """Add the children of inner nodes, of which tree nodes [A] and states [A, H] are given, to the
        frontier or, whole names, to the results, where an item is allowed below them."""
        origin, child = self.trie.children(inner.node)
        allowed = self.exclusions.allows_below(self.requests[inner.row[origin]], child)
        origin, child = origin[allowed], child[allowed]
        score = inner.score[origin] + self.tree.log_probs(states, origin, child)
        children = _Frontier(inner.row[origin], child, tree_nodes[origin], score)
        whole = self.tree.is_whole_name(child)
        self._add_results(children.row[whole], child[whole], score[whole])
        self.frontier = self.frontier.concat(children.filter(~whole))
        self._prune()

    def _add_results(self, row: np.ndarray, leaf: np.ndarray, score: np.ndarray) -> None:
        """Keep the best k of the results and these, and the k-th as the bound."""
        results = self.results.concat(_Results(self.requests[row], self.trie.items_at(leaf), score))
        self.results = results.take(top_k_per_row(results.request, results.score, results.item, self.k))
        self.bound = kth_score_per_row(self.results.request, self.results.score, self.k, len(self.bound))

    def _prune(self) -> None:
        """Drop what cannot beat the bound, and all of a request that has met its limit; finished requests
        leave the batch."""
        frontier = self.frontier
        kept = frontier.score > self.bound[self.requests[frontier.row]]
        if self.limit:
            spent = self.tokens_decoded[self.requests] >= self.limit
            self.proven[self.requests[np.unique(frontier.row[kept & spent[frontier.row]])]] = False
            kept &= ~spent[frontier.row]
        self.frontier = frontier.filter(kept)
        rows = np.unique(self.frontier.row)
        if 0 < len(rows) <= COMPACT_AT * len(self.requests):
            self.tree.select(rows)
            self.frontier.row, self.requests = np.searchsorted(rows, self.frontier.row), self.requests[rows]
