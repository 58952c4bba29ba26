"""Beam search inside the item trie: valid, distinct items of which none is excluded, always.

Vectorised over requests and beams: the prompt is read once per request, each beam stands at a trie node, and
its tokens are nodes of the tree decoded after the prompt. *Jump-forward*: where a beam's prefix belongs to
one item alone, a leaf, the rest of the name is decoded in one call, not token by token. The score of such a
beam after each further token is then known, and it is *replayed* step by step where beams are pruned, so the
result is that of the plain search. Requests do not wait for each other: one with many tails to decode does so
over some calls while the others go on, so that the rectangles which the model reads are full.

Example: names "red scarf", "red hat" and "blue cap" (a token per word), two beams,
log-probabilities in brackets.

    step 1   expand the root   red [-1.0], blue [-0.9]: both stay
             decode            red: its state; blue, a leaf: log p(cap | blue) is -2.0, its replay [-2.9]
    step 2   expand red        red scarf [-1.2], red hat [-1.5]: whole names, nothing left to decode
             replay blue       blue cap [-2.9]: third of two beams, pruned
             retire            red scarf, red hat: no beam of the request is left to expand

With `finish="retire"` "blue cap" is finished after step 1 and takes no beam in step 2; the best two of all
finished names come back.

Legend: R requests, N beams of all requests, C their children; scores are log-probabilities in nats.
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
from shelftalk.decoding.settings import OVER_VOCABULARY, Finish, Softmax
from shelftalk.decoding.top_items import TopItems, kth_score_per_row, top_items, top_k_per_row
from shelftalk.models.token_tree import Prefilled
from shelftalk.ragged import Ragged


@dataclass
class _Beams(Columns):
    """[N] each, rows ascending."""

    row: np.ndarray
    """The request's row in the batch; in `_BeamSearch.finished` the request itself."""
    node: np.ndarray
    """The trie node."""
    depth: np.ndarray
    """Tokens down to the trie node."""
    score: np.ndarray
    """Log-probability of these tokens, and of those of the tail that have been replayed."""
    is_leaf: np.ndarray
    """Whether the prefix belongs to one item alone."""
    is_decoded: np.ndarray
    """Whether the last token has been decoded, or of a leaf its tail scored."""
    tree_node: np.ndarray
    """Tree node of the last token; before that is decoded, of its parent."""
    state: np.ndarray
    """Index into `_BeamSearch.states`, likewise."""
    replay: np.ndarray
    """Of a decoded leaf: index into `_BeamSearch.replay_scores` of the score after its tail's next token."""
    replay_end: np.ndarray
    """The index after that of the score after its tail's last token."""


def beam_search(
    prefilled: Prefilled,
    trie: Trie,
    exclusions: Exclusions,
    beams: int,
    length_penalty: float = 0.0,
    finish: Finish = "replay",
    softmax: Softmax = OVER_VOCABULARY,
) -> TopItems:
    """The best `beams` items per request by the sum of their token log-probabilities.

    `length_penalty` a: the items found are put in order by log-probability / (tokens of the name) ** a; 0
    leaves it alone.
    `finish`: "replay" prunes as a plain search that goes on token by token; "retire" takes an item out of the
    beam as soon as its prefix belongs to it alone, so that its beam is free for another: a wider search at
    the cost of more tails.
    `softmax`: what a token's probability is over.
    Raises IllegalMove should a result not be a live, distinct item.
    """
    tree = DecodedTree(prefilled, trie, softmax)
    search = _BeamSearch(tree, trie, exclusions, beams, finish == "retire")
    while search.is_running:
        search.step()
    finished = search.finished
    tokens = finished.depth + tree.tail_lengths(finished.node)
    scores = finished.score / tokens.astype(np.float64) ** length_penalty
    return top_items(exclusions, finished.row, trie.items_at(finished.node), scores, beams)


class _BeamSearch:
    """One search: the running beams, those that are finished, the states of inner beams and the replay
    of leaves."""

    def __init__(
        self, tree: DecodedTree, trie: Trie, exclusions: Exclusions, beams: int, retire: bool
    ) -> None:
        self.tree, self.trie, self.exclusions = tree, trie, exclusions
        self.num_beams, self.retire = beams, retire
        self.requests = np.arange(exclusions.requests)  # the request of each row of the batch
        self.states = tree.prompt_states  # of the inner beams that have been decoded
        self.replay_scores = np.zeros(0)
        rows = np.flatnonzero(exclusions.num_allowed() > 0)
        zero, no = np.zeros(len(rows), np.int64), np.zeros(len(rows), bool)
        score, prompt = np.zeros(len(rows)), np.full(len(rows), PROMPT)
        self.running = _Beams(rows, zero + trie.root, zero, score, no, ~no, prompt, rows, zero, zero)
        self.finished = self.running.take(np.zeros(0, np.int64))

    @property
    def is_running(self) -> bool:
        return len(self.running.row) > 0

    def step(self) -> None:
        """One token further for each request of which all beams have been decoded; then decode what is new,
        as much as fits."""
        # Requests with beams still to be decoded wait.
        waits = np.zeros(len(self.requests), bool)
        waits[self.running.row[~self.running.is_decoded]] = True
        ready = self.running.filter(~waits[self.running.row])
        waiting = self.running.filter(waits[self.running.row])

        # Expand and prune the others.
        children = self._expand(ready)
        candidates = children if self.retire else children.concat(self._replay(ready))
        pruned = self._prune_apart(candidates) if self.retire else self._prune(candidates)
        beams = waiting.concat(pruned)
        self.running = beams.take(np.argsort(beams.row, kind="stable"))

        # Decode, and let finished requests go.
        self._decode()
        self._retire()

    def _expand(self, beams: _Beams) -> _Beams:
        """The children of inner beams below which an item is allowed, their last token not decoded."""
        inner = beams.filter(~beams.is_leaf)
        inner = inner.take(np.argsort(inner.state))
        origin, child = self.trie.children(inner.node)
        allowed = self.exclusions.allows_below(self.requests[inner.row[origin]], child)
        origin, child = origin[allowed], child[allowed]
        log_probs = self.tree.log_probs(self.states, inner.state[origin], child)
        children = inner.take(origin)
        children.node, children.depth = child, children.depth + 1
        children.score = children.score + log_probs
        children.is_leaf, children.is_decoded = self.trie.is_leaf(child), np.zeros(len(child), bool)
        return children

    def _replay(self, beams: _Beams) -> _Beams:
        """The beams at leaves, one token of their tails later; a whole name stays as it is."""
        leaves = beams.filter(beams.is_leaf)
        goes_on = leaves.replay < leaves.replay_end
        leaves.score[goes_on] = self.replay_scores[leaves.replay[goes_on]]
        leaves.replay = leaves.replay + goes_on
        return leaves

    def _prune(self, beams: _Beams) -> _Beams:
        """The best beams of each row."""
        return beams.take(top_k_per_row(beams.row, beams.score, beams.node, self.num_beams))

    def _prune_apart(self, children: _Beams) -> _Beams:
        """Retiring: inner beams compete among themselves, leaves among themselves, and both with the worst of
        a full finished list."""
        self.finished = self._prune(self.finished)
        done, requests = self.finished, self.exclusions.requests
        worst = kth_score_per_row(done.row, done.score, self.num_beams, requests)
        children = children.filter(children.score > worst[self.requests[children.row]])
        leaves, inner = children.filter(children.is_leaf), children.filter(~children.is_leaf)
        return self._prune(leaves).concat(self._prune(inner))

    def _decode(self) -> None:
        """Decode the last token of new beams and the tails of those at leaves, as much as fits in a call."""
        beams = self.running
        new = np.flatnonzero(~beams.is_decoded)
        whole = self.tree.is_whole_name(beams.node[new])
        beams.is_decoded[new[whole]] = True
        new = new[~whole]
        if not len(new):
            return
        max_tokens = max(TOKENS_PER_CALL, self.num_beams)
        advanced = advance(self.tree, beams.row[new], beams.node[new], beams.tree_node[new], max_tokens)
        inner, leaves = new[advanced.inner], new[advanced.leaves]
        beams.is_decoded[inner] = beams.is_decoded[leaves] = True
        self._store_states(inner, advanced.inner_tree_nodes, advanced.inner_states)
        self._store_replay(leaves, advanced.tail_log_probs)

    def _store_states(self, inner: np.ndarray, tree_nodes: np.ndarray, states: torch.Tensor) -> None:
        """Where the beams `inner` stand now; states at which no beam stands any more are dropped."""
        beams = self.running
        beams.tree_node[inner], beams.state[inner] = tree_nodes, len(self.states) + np.arange(len(inner))
        standing = np.flatnonzero(~beams.is_leaf & beams.is_decoded)
        used, beams.state[standing] = np.unique(beams.state[standing], return_inverse=True)
        self.states = torch.cat([self.states, states])[torch.from_numpy(used)]

    def _store_replay(self, leaves: np.ndarray, tail_log_probs: Ragged) -> None:
        """The scores of the beams `leaves` after each token of their tails: score + cumulative sum of the
        tail's log-probabilities."""
        beams, offsets = self.running, tail_log_probs.offsets
        sums = np.cumsum(np.concatenate([[0.0], tail_log_probs.values]))  # over all tails; each starts anew:
        starts = np.repeat(beams.score[leaves] - sums[offsets[:-1]], tail_log_probs.lengths)
        beams.replay[leaves] = len(self.replay_scores) + offsets[:-1]
        beams.replay_end[leaves] = len(self.replay_scores) + offsets[1:]
        self.replay_scores = np.concatenate([self.replay_scores, sums[1:] + starts])

    def _retire(self) -> None:
        """Move what is decided to the finished beams: all of a request whose beams are decoded leaves, or,
        retiring, each such leaf."""
        beams = self.running
        decoded_leaf = beams.is_leaf & beams.is_decoded
        goes_on = np.zeros(len(self.requests), bool)
        goes_on[beams.row[~decoded_leaf]] = True
        decided = decoded_leaf & (self.retire | ~goes_on[beams.row])

        # A finished name has the score of its last token, whether or not it was replayed so far.
        retired = beams.filter(decided)
        ahead = retired.replay < retired.replay_end
        retired.score[ahead] = self.replay_scores[retired.replay_end[ahead] - 1]
        retired.row = self.requests[retired.row]
        self.finished, self.running = self.finished.concat(retired), beams.filter(~decided)

        # Finished requests leave the batch now and then, since the rest of it is copied.
        if goes_on.any() and goes_on.mean() <= COMPACT_AT:
            rows = np.flatnonzero(goes_on)
            self.tree.select(rows)
            self.running.row, self.requests = np.searchsorted(rows, self.running.row), self.requests[rows]
