"""Beam search inside the item trie: valid, distinct items of which none is hidden, always.

Vectorised over requests and beams: the prompt is read once per request, each beam carries its trie node, and a beam is a node of the
tree that the backbone grows behind the prompt. *Jump-forward*: where a beam's prefix belongs to one item alone, the rest of the name is
scored in the same call, not step by step. What such a beam is worth at each later step is then known, and it is *replayed* token by
token where beams are pruned, so the answer is that of the plain search. Requests do not wait for each other: one with many tails to say
says them over some calls while the others go on, so that the rectangles which the backbone reads are full.

Legend: R requests, B beams, N beams of all requests, C candidates for the next step; scores in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from shelftalk.decoding.found import Found, answer
from shelftalk.decoding.hiding import Hidden
from shelftalk.decoding.item_trie import Trie
from shelftalk.decoding.settings import Finish
from shelftalk.decoding.tree import PROMPT, SAID_AT_ONCE, SHRINK, Columns, Said, Tree, best, fits, inner_first, jump_lines, tails_behind
from shelftalk.models.backbone import Prefilled


@dataclass
class _Beams(Columns):
    """[N] each, by request: row of the tree, trie node, tokens on the way to it, score; whether it stands at a leaf and whether what
    leads to it has been said; its last tree node (its parent's, before it has spoken) and the place of its state in
    `_Search.states`. Of a leaf: what it is worth after each further token, in `_Search.replay` from `at` to `end`."""

    row: np.ndarray
    node: np.ndarray
    depth: np.ndarray
    score: np.ndarray
    leaf: np.ndarray
    spoken: np.ndarray
    tree: np.ndarray
    state: np.ndarray
    at: np.ndarray
    end: np.ndarray


def beam_search(
    prefilled: Prefilled, trie: Trie, hidden: Hidden, beams: int, length_penalty: float = 0.0, finish: Finish = "replay"
) -> Found:
    """The best `beams` items per request by the sum of their token log-probabilities.

    `length_penalty` a: the items found are put in order by log-probability / (tokens of the name) ** a; 0 leaves it alone.
    `finish`: "replay" prunes as a plain search that goes on token by token; "retire" takes an item out of the beam as soon as
    its prefix belongs to it alone, so that its place is free for another: a wider search at the cost of more tails.
    Raises IllegalMove should an answer not be a live, distinct item.
    """
    search = _Search(Tree(prefilled), trie, hidden, beams, finish == "retire")
    while search.searching:
        search.step()
    done = search.done
    tokens = done.depth + trie.tails(done.node).lengths
    return answer(hidden, done.row, trie.items_at(done.node), done.score / tokens.astype(np.float64) ** length_penalty, beams)


class _Search:
    """One search: the beams that still grow, those that are done, and the replay of the leaves."""

    def __init__(self, tree: Tree, trie: Trie, hidden: Hidden, beams: int, retire: bool) -> None:
        self.tree, self.trie, self.hidden = tree, trie, hidden
        self.width, self.retire = beams, retire
        self.requests = np.arange(hidden.requests)  # the request of each row of the tree
        self.states = tree.start  # of the inner beams that have spoken
        self.replay = np.zeros(0)
        rows = np.flatnonzero(hidden.left() > 0)
        zero = np.zeros(len(rows), np.int64)
        no = zero > 0
        self.beams = _Beams(rows, zero + trie.root, zero, np.zeros(len(rows)), no, ~no, zero + PROMPT, rows, zero, zero)
        self.done = self.beams.take(np.zeros(0, np.int64))

    @property
    def searching(self) -> bool:
        return len(self.beams.row) > 0

    def step(self) -> None:
        """One token further for every request whose beams have all spoken; then what is still to be said, as much as fits."""
        waits = np.zeros(len(self.requests), bool)
        waits[self.beams.row[~self.beams.spoken]] = True
        now, later = self.beams.where(~waits[self.beams.row]), self.beams.where(waits[self.beams.row])
        next_ones = self._apart(self._children(now)) if self.retire else self._pruned(self._children(now).joined(self._replayed(now)))
        both = later.joined(next_ones)
        self.beams = both.take(np.argsort(both.row, kind="stable"))
        self._say()
        self._part()

    def _children(self, beams: _Beams) -> _Beams:
        """The live children of the inner beams, which have not said their token yet."""
        inner = beams.where(~beams.leaf)
        inner = inner.take(np.argsort(inner.state))
        origin, child = self.trie.children(inner.node)
        live = self.hidden.open(self.requests[inner.row[origin]], child)
        origin, child = origin[live], child[live]
        said = self.tree.log_probs_of(self.states, inner.state[origin], self.trie.tokens_to(child))
        found = inner.take(origin)
        found.node, found.score, found.leaf = child, found.score + said, self.trie.is_leaf(child)
        found.depth, found.spoken = found.depth + 1, np.zeros(len(child), bool)
        return found

    def _replayed(self, beams: _Beams) -> _Beams:
        """The beams at leaves, one token later: a whole name stays what it is."""
        leaves = beams.where(beams.leaf)
        goes_on = leaves.at < leaves.end
        leaves.score[goes_on] = self.replay[leaves.at[goes_on]]
        leaves.at = leaves.at + goes_on
        return leaves

    def _pruned(self, beams: _Beams) -> _Beams:
        return beams.take(best(beams.row, beams.score, beams.node, self.width))

    def _apart(self, children: _Beams) -> _Beams:
        """Retiring: inner beams compete among themselves, leaves among themselves, and all with what has been found."""
        self.done = self._pruned(self.done)
        rows, first, number = np.unique(self.done.row, return_index=True, return_counts=True)
        full = number == self.width
        worst = np.full(self.hidden.requests, -np.inf)
        worst[rows[full]] = self.done.score[(first + number - 1)[full]]
        children = children.where(children.score > worst[self.requests[children.row]])
        return self._pruned(children.where(children.leaf)).joined(self._pruned(children.where(~children.leaf)))

    def _say(self) -> None:
        """Beams that have not spoken say their token, those at a leaf the rest of the name as well, as far as the call has room."""
        silent = np.flatnonzero(~self.beams.spoken)
        tails = tails_behind(self.trie, self.beams.node[silent])
        whole = self.beams.leaf[silent] & (tails.lengths == 0)
        self.beams.spoken[silent[whole]] = True
        self.beams.at[silent], self.beams.end[silent] = 0, 0
        chosen = np.flatnonzero(~whole)
        room = max(SAID_AT_ONCE, self.width)
        chosen = chosen[fits(self.beams.row[silent[chosen]], np.maximum(tails.lengths[chosen], 1), room)]
        if not len(chosen):
            return
        chosen = chosen[inner_first(self.beams.row[silent[chosen]], self.beams.leaf[silent[chosen]])]
        speaks, tails = silent[chosen], tails.take(chosen)
        leaf, before = self.beams.leaf[speaks], self.tree.grown
        lines = jump_lines(self.trie.tokens_to(self.beams.node[speaks]), tails)
        said = self.tree.say(self.beams.row[speaks], self.beams.tree[speaks], lines)
        self.tree.forget_leaves(self.beams.row[speaks], leaf, before)
        self.beams.spoken[speaks] = True
        self._keep_states(speaks[~leaf], said, said.ends[~leaf])
        in_tail = torch.from_numpy(np.repeat(leaf, lines.lengths))
        steps = self.tree.log_probs_of(said.states[in_tail], np.arange(len(tails.values)), tails.values)
        self._remember(speaks[leaf], tails.take(np.flatnonzero(leaf)).bounds, steps)

    def _keep_states(self, places: np.ndarray, said: Said, ends: np.ndarray) -> None:
        """The new inner beams' tree nodes and states; states that no beam stands at any more are let go."""
        states = torch.cat([self.states, said.states[torch.from_numpy(ends)]])
        self.beams.tree[places], self.beams.state[places] = said.nodes[ends], len(self.states) + np.arange(len(places))
        stands = np.flatnonzero(~self.beams.leaf & self.beams.spoken)
        used, self.beams.state[stands] = np.unique(self.beams.state[stands], return_inverse=True)
        self.states = states[torch.from_numpy(used)]

    def _remember(self, places: np.ndarray, bounds: np.ndarray, steps: np.ndarray) -> None:
        """What the beams at `places` are worth after each token of their tails."""
        sums = np.cumsum(np.concatenate([[0.0], steps]))
        before = np.repeat(self.beams.score[places] - sums[bounds[:-1]], np.diff(bounds))
        self.beams.at[places], self.beams.end[places] = len(self.replay) + bounds[:-1], len(self.replay) + bounds[1:]
        self.replay = np.concatenate([self.replay, sums[1:] + before])

    def _part(self) -> None:
        """Take leave of what is decided: requests that have no inner beam left and have said all, or, retiring, every leaf that has."""
        goes_on = np.zeros(len(self.requests), bool)
        goes_on[self.beams.row[~(self.beams.leaf & self.beams.spoken)]] = True
        decided = self.beams.leaf & self.beams.spoken & (self.retire | ~goes_on[self.beams.row])
        gone = self.beams.where(decided)
        ahead = gone.at < gone.end
        gone.score[ahead] = self.replay[gone.end[ahead] - 1]
        gone.row = self.requests[gone.row]
        self.done, self.beams = self.done.joined(gone), self.beams.where(~decided)
        if goes_on.any() and goes_on.mean() <= SHRINK:
            rows = np.flatnonzero(goes_on)
            self.tree.keep(rows)
            self.beams.row, self.requests = np.searchsorted(rows, self.beams.row), self.requests[rows]
