"""Exact answers: the true top k by best-first search, and the log-probability of every item by walking the whole trie.

Legend: R requests, K places, I items, N nodes, C children; scores in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from shelftalk.decoding.found import Found, answer
from shelftalk.decoding.hiding import Hidden
from shelftalk.decoding.item_trie import Trie
from shelftalk.decoding.tree import PROMPT, SAID_AT_ONCE, SHRINK, Columns, Said, Tree, best, fits, inner_first, jump_lines, tails_behind
from shelftalk.models.backbone import Prefilled
from shelftalk.tasks.ragged import Ragged, slices


@dataclass(frozen=True, eq=False)
class Exact(Found):
    """`proven` [R] bool: whether the search ended before it met its limit, so that the answer is the true top k. `said` [R]: tokens
    read behind each prompt."""

    proven: np.ndarray
    said: np.ndarray


@dataclass
class _Open(Columns):
    """[N] each: prefixes that have not been said yet. Their token's log-probability is in the score, which no name below can beat."""

    row: np.ndarray
    node: np.ndarray
    tree: np.ndarray
    score: np.ndarray


def exact_top(prefilled: Prefilled, trie: Trie, hidden: Hidden, k: int, width: int = SAID_AT_ONCE, limit: int = 0) -> Exact:
    """The k items of the highest log-probability per request, by best-first search: the score of a prefix bounds all names below it
    (Hart, Nilsson and Raphael, 1968, with the partial log-probability as the bound), so what is worse than the k-th item found is
    never looked at.

    `width`: tokens that are said at once behind a prompt, the best prefixes first; it changes the cost alone. `limit`: how many tokens
    may be read behind a prompt before no further call is made, 0 for no limit; where it is met, the answer is the best found so far
    and not `proven`.
    """
    search = _BestFirst(Tree(prefilled), trie, hidden, k, width, limit)
    while search.searching:
        search.step()
    found = answer(hidden, search.row, search.item, search.score, k)
    return Exact(found.items, found.scores, search.proven, search.said)


class _BestFirst:
    """One search: the open prefixes, the items found, and the k-th best of them per request."""

    def __init__(self, tree: Tree, trie: Trie, hidden: Hidden, k: int, width: int, limit: int) -> None:
        self.tree, self.trie, self.hidden = tree, trie, hidden
        self.k, self.width, self.limit = k, width, limit
        self.requests = np.arange(hidden.requests)  # the request of each row of the tree
        self.row, self.item, self.score = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)  # found; rows are requests
        self.bound = np.full(hidden.requests, -np.inf)  # [R] score of the k-th item found
        self.proven, self.said = np.ones(hidden.requests, bool), np.zeros(hidden.requests, np.int64)
        rows = np.flatnonzero((hidden.left() > 0) & (k > 0))
        self.open = _Open(*(np.zeros(0, kind) for kind in (np.int64, np.int64, np.int64, float)))
        zero = np.zeros(len(rows), np.int64)
        self._widen(rows, zero + trie.root, zero + PROMPT, np.zeros(len(rows)), tree.start[torch.from_numpy(rows)])

    @property
    def searching(self) -> bool:
        return len(self.open.row) > 0

    def step(self) -> None:
        """Say the most promising prefixes of each request, leaves with the rest of their names, as much as fits into a call."""
        places = best(self.open.row, self.open.score, self.open.node, self.width)
        tails = tails_behind(self.trie, self.open.node[places])
        said_now = fits(self.open.row[places], np.maximum(tails.lengths, 1), self.width)
        said_now = said_now[inner_first(self.open.row[places[said_now]], self.trie.is_leaf(self.open.node[places[said_now]]))]
        places, tails = places[said_now], tails.take(said_now)
        left = np.ones(len(self.open.row), bool)
        left[places] = False
        now, self.open = self.open.take(places), self.open.where(left)
        leaf, before = self.trie.is_leaf(now.node), self.tree.grown
        said = self.tree.say(now.row, now.tree, jump_lines(self.trie.tokens_to(now.node), tails))
        self.tree.forget_leaves(now.row, leaf, before)
        np.add.at(self.said, self.requests[now.row], said.lines.lengths)
        self._finish(now.where(leaf), said, leaf, tails.take(np.flatnonzero(leaf)))
        inner, ends = np.flatnonzero(~leaf), said.ends[~leaf]
        self._widen(now.row[inner], now.node[inner], said.nodes[ends], now.score[inner], said.states[torch.from_numpy(ends)])

    def _finish(self, leaves: _Open, said: Said, leaf: np.ndarray, tails: Ragged) -> None:
        """Whole names: what their tails add to the scores."""
        spoken = torch.from_numpy(np.repeat(leaf, said.lines.lengths))
        steps = self.tree.log_probs_of(said.states[spoken], np.arange(len(tails.values)), tails.values)
        self._found(leaves.row, leaves.node, leaves.score + np.bincount(tails.owner, steps, len(leaves.row)))

    def _widen(self, row: np.ndarray, node: np.ndarray, tree: np.ndarray, score: np.ndarray, states: torch.Tensor) -> None:
        """Open the children of the nodes whose states are given [N, H], unless they are hidden or cannot win any more."""
        origin, child = self.trie.children(node)
        live = self.hidden.open(self.requests[row[origin]], child)
        origin, child = origin[live], child[live]
        score = score[origin] + self.tree.log_probs_of(states, origin, self.trie.tokens_to(child))
        new = _Open(row[origin], child, tree[origin], score)
        whole = self.trie.is_leaf(child)
        whole[whole] = self.trie.tails(child[whole]).lengths == 0
        self._found(new.row[whole], child[whole], score[whole])
        self.open = self.open.joined(new.where(~whole))
        self._narrow()

    def _found(self, row: np.ndarray, leaf: np.ndarray, score: np.ndarray) -> None:
        """Remember items, and the k-th best as the bound."""
        self.row = np.concatenate([self.row, self.requests[row]])
        self.item, self.score = np.concatenate([self.item, self.trie.items_at(leaf)]), np.concatenate([self.score, score])
        kept = best(self.row, self.score, self.item, self.k)
        self.row, self.item, self.score = self.row[kept], self.item[kept], self.score[kept]
        rows, last, number = np.unique(self.row[::-1], return_index=True, return_counts=True)
        full = number == self.k
        self.bound[rows[full]] = self.score[len(self.row) - 1 - last[full]]

    def _narrow(self) -> None:
        """Close what cannot win, and what stands behind a prompt that has met its limit; let finished requests go."""
        keeps = self.open.score > self.bound[self.requests[self.open.row]]
        if self.limit:
            spent = self.said[self.requests] >= self.limit
            self.proven[self.requests[np.unique(self.open.row[keeps & spent[self.open.row]])]] = False
            keeps &= ~spent[self.open.row]
        self.open = self.open.where(keeps)
        rows = np.unique(self.open.row)
        if 0 < len(rows) <= SHRINK * len(self.requests):
            self.tree.keep(rows)
            self.open.row, self.requests = np.searchsorted(rows, self.open.row), self.requests[rows]


@dataclass(frozen=True, eq=False)
class _Branch:
    """Inner nodes of the trie that are still to be said, when `floor` tree nodes are left: `nodes` [N], the tree nodes `behind` [N]
    which they stand, and `worth` [R, N], their tokens included."""

    floor: int
    nodes: np.ndarray
    behind: np.ndarray
    worth: np.ndarray


def score_catalogue(prefilled: Prefilled, trie: Trie, at_once: int = 512) -> np.ndarray:
    """[R, I] float64: the log-probability of every item's whole name, by one walk over the trie in which each shared prefix is said
    once. At most `at_once` tokens are said behind a prompt at once (a longer tail alone), and forgotten before the next branch, so memory
    grows with the depth of the trie and not with the catalogue.
    """
    tree = Tree(prefilled)
    requests = len(tree.start)
    scores = np.full((requests, trie.items), np.nan)
    root, prompt = np.array([trie.root]), np.array([PROMPT])
    ahead = _walk(tree, trie, scores, root, prompt, np.zeros((requests, 1)), tree.start[:, None], at_once)
    while ahead:
        branch = ahead.pop()
        tree.crop(branch.floor)
        said = _say_to_all(tree, requests, branch.behind, _alone(trie.tokens_to(branch.nodes)))
        below, states = said.nodes[: len(branch.nodes)], said.states.unflatten(0, (requests, -1))  # the same numbers behind every prompt
        ahead += _walk(tree, trie, scores, branch.nodes, below, branch.worth, states, at_once)
    return scores


def _walk(
    tree: Tree,
    trie: Trie,
    scores: np.ndarray,
    nodes: np.ndarray,
    behind: np.ndarray,
    worth: np.ndarray,
    states: torch.Tensor,
    at_once: int,
) -> list[_Branch]:
    """One step down from `nodes` [N], which stand at the tree nodes `behind` [N] with `worth` [R, N] and `states` [R, N, H]: scores
    the leaves below them, and returns the inner nodes below them."""
    requests, floor = len(scores), tree.grown
    origin, child = trie.children(nodes)
    owner = (np.arange(requests)[:, None] * len(nodes) + origin).ravel()
    steps = tree.log_probs_of(states.flatten(0, 1), owner, np.tile(trie.tokens_to(child), requests))
    worth = worth[:, origin] + steps.reshape(requests, len(child))  # [R, C]
    leaf = trie.is_leaf(child)
    tails = trie.tails(child[leaf])
    whole = leaf.copy()
    whole[leaf] = tails.lengths == 0
    scores[:, trie.items_at(child[whole])] = worth[:, whole]
    ends = np.flatnonzero(leaf & ~whole)
    long = tails.take(np.flatnonzero(tails.lengths > 0))
    for part in _parts(long.lengths, at_once):
        here, rows = ends[part], slices(long.values, long.bounds[part], long.bounds[part + 1])
        said = _say_to_all(tree, requests, behind[origin[here]], jump_lines(trie.tokens_to(child[here]), rows))
        added = tree.log_probs_of(said.states, np.arange(len(said.states)), np.tile(rows.values, requests).astype(np.int64))
        totals = np.stack([np.bincount(rows.owner, row, len(here)) for row in added.reshape(requests, -1)])
        scores[:, trie.items_at(child[here])] = worth[:, here] + totals
        tree.crop(floor)
    inner = np.flatnonzero(~leaf)
    parts = (inner[part] for part in _parts(np.ones(len(inner), np.int64), at_once))
    return [_Branch(floor, child[here], behind[origin[here]], worth[:, here]) for here in parts]


def _alone(tokens: np.ndarray) -> Ragged:
    """[N] lines of one token."""
    return Ragged(tokens, np.arange(len(tokens) + 1))


def _say_to_all(tree: Tree, requests: int, behind: np.ndarray, lines: Ragged) -> Said:
    """The same lines behind every prompt, request by request."""
    everywhere = lines.take(np.tile(np.arange(len(lines)), requests))
    return tree.say(np.repeat(np.arange(requests), len(lines)), np.tile(behind, requests), everywhere)


def _parts(lengths: np.ndarray, at_once: int) -> list[np.ndarray]:
    """Places in order, cut so that no part is longer than `at_once` altogether unless one alone is."""
    parts: list[np.ndarray] = []
    start, total = 0, 0
    for place, length in enumerate(lengths.tolist()):
        if place > start and total + length > at_once:
            parts.append(np.arange(start, place))
            start, total = place, 0
        total += length
    return [*parts, np.arange(start, len(lengths))] if len(lengths) else parts
