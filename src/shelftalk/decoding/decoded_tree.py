"""What a search has decoded after its prompts, and the step that searches share: choose, lay out, decode,
crop, score.

Above this file there are flat arrays over all requests, below it rectangles [R, N] for the model. Example:
after one prompt, of a trie with "red scarf", "red hat" and "blue cap" (a token per word), beam search stands
at "red", which two items share, and at the leaf "blue", whose tail is "cap":

    advance(...)   span     tree node   kept   what comes back
    inner "red"    [red]    0           yes    its state, from which "scarf" and "hat" are scored next
    leaf "blue"    [blue]   1           no     log p(cap | blue): the last token of a name is never decoded

Tree node 1 is cropped right away, since nothing is ever decoded after a leaf: memory grows with the prefixes
that several items share, not with the lengths of names.

Where a token's probability is over the trie (see `Softmax`), a name is decided at its leaf: the tokens of the
tail are certain, and "blue" is a whole name.

Legend: R requests (rows of the batch), N spans (a span is a run of tokens decoded one after the other), P
tokens of all spans, H hidden width. A *node* is a trie node where not said otherwise, a *tree node* one of
the tokens decoded after a prompt. Rows ascend.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch

from shelftalk.decoding.item_trie import Trie
from shelftalk.decoding.settings import Softmax
from shelftalk.errors import SettingsError
from shelftalk.models.token_tree import Prefilled
from shelftalk.ragged import Ragged, hstack, offsets_of, rank_within_row

PROMPT = -1
"""The tree node of a prompt's end."""
COMPACT_AT = 0.75
"""Requests that are finished leave the batch when no more than this share of it still searches."""
TOKENS_PER_CALL = 64
"""Tokens that a search decodes after a prompt in one call, more or less: all prompts decode as many, or the
rest is padding."""


@dataclass
class Columns:
    """Arrays of one length, a row per beam or prefix: rows are chosen and joined for all of them at once."""

    def take(self, index: np.ndarray) -> Self:
        """The rows `index`, in that order."""
        return type(self)(*(getattr(self, field.name)[index] for field in fields(self)))

    def filter(self, mask: np.ndarray) -> Self:
        """The rows of a mask [N] bool."""
        return self.take(np.flatnonzero(mask))

    def concat(self, other: Self) -> Self:
        """These rows, then the other's."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return type(self)(*map(np.concatenate, pairs))


class DecodedTree:
    """The tokens decoded after each prompt: begins at the prompts' ends, whatever an earlier search has
    decoded there. `trie` is what is searched, with probabilities by `softmax`."""

    def __init__(self, prefilled: Prefilled, trie: Trie, softmax: Softmax) -> None:
        prefilled.crop(0)
        self.prefilled = prefilled
        self.trie = trie
        self.softmax = softmax
        self.num_nodes = 0
        """Tree nodes after each prompt."""

    @property
    def prompt_states(self) -> torch.Tensor:
        """[R, H] the states at the prompts' ends."""
        return self.prefilled.states

    def decode(self, row: np.ndarray, parent: np.ndarray, spans: Ragged) -> Decoded:
        """Decode span n after tree node `parent[n]` of request `row[n]`; no span is empty."""
        # The tokens of a request stand side by side in its row: of each span the first follows `parent`, the
        # others each other.
        token_row = row[spans.row_ids]  # [P]
        column = rank_within_row(token_row)
        node = self.num_nodes + column
        token_parent = node - 1
        token_parent[spans.offsets[:-1]] = parent

        # Shorter rows are filled up with tokens that nothing follows.
        width = int(column.max()) + 1
        parents, tokens = (np.full((len(self.prompt_states), width), fill) for fill in (PROMPT, 0))
        parents[token_row, column], tokens[token_row, column] = token_parent, spans.values

        device = self.prompt_states.device
        rectangles = (torch.from_numpy(array).to(device) for array in (parents, tokens))
        states = self.prefilled.decode(*rectangles)[torch.from_numpy(token_row), torch.from_numpy(column)]
        self.num_nodes += width
        return Decoded(Ragged(node, spans.offsets), states)

    def log_probs(self, states: torch.Tensor, state_index: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """[C] float64 nats: the token that leads to each of the trie's `nodes` after the state
        `states[state_index[c]]`, which is that of its parent; indices ascend. Raises SettingsError where one
        is not finite: a search would drop such items in silence, and a score of them would be no number."""
        tokens = self.trie.tokens_to(nodes)
        if self.softmax.over == "vocabulary":
            return self.token_log_probs(states, state_index, tokens)
        first = np.flatnonzero(np.diff(state_index, prepend=-1))  # [X] of each state that is asked
        parents, set_of = np.unique(self.trie.parents(nodes[first]), return_inverse=True)
        origin, siblings = self.trie.children(parents)
        sets = Ragged(self.trie.tokens_to(siblings), offsets_of(np.bincount(origin, minlength=len(parents))))
        index, ids = self._tensors(state_index, tokens)
        backbone, temperature = self.prefilled.backbone, self.softmax.temperature
        return _finite(backbone.log_probs_among(states, index, ids, sets, set_of, temperature))

    def token_log_probs(
        self, states: torch.Tensor, state_index: np.ndarray, tokens: np.ndarray
    ) -> np.ndarray:
        """[C] float64 nats: each token after its state, of all tokens. Raises as `log_probs` does."""
        return _finite(self.prefilled.backbone.log_probs_of(states, *self._tensors(state_index, tokens)))

    def _tensors(self, *arrays: np.ndarray) -> Iterator[torch.Tensor]:
        return (torch.from_numpy(array).to(self.prompt_states.device) for array in arrays)

    def tails(self, leaves: np.ndarray) -> Ragged:
        """[N] int64: the tokens after each leaf that its name's score depends on; none where the softmax is
        over the trie."""
        if self.softmax.over == "trie":
            return Ragged(np.zeros(0, np.int64), np.zeros(len(leaves) + 1, np.int64))
        tails = self.trie.tails(leaves)
        return Ragged(tails.values.astype(np.int64), tails.offsets)

    def tail_lengths(self, leaves: np.ndarray) -> np.ndarray:
        """[N] the number of tokens of each row of `tails`."""
        if self.softmax.over == "trie":
            return np.zeros(len(leaves), np.int64)
        return self.trie.tail_lengths(leaves)

    def is_whole_name(self, nodes: np.ndarray) -> np.ndarray:
        """[N] bool: whether a node is a leaf without such a tail, so that its score is the whole name's."""
        whole = self.trie.is_leaf(nodes)
        whole[whole] = self.tail_lengths(nodes[whole]) == 0
        return whole

    def score_tails(
        self, row: np.ndarray, parent: np.ndarray, tokens: np.ndarray, tails: Ragged
    ) -> np.ndarray:
        """[N] the log-probability of each tail after its leaf, whose token `tokens[n]` follows tree node
        `parent[n]` of request `row[n]`. No tail is empty. What is decoded for it is cropped again."""
        before = self.num_nodes
        decoded = self.decode(row, parent, spans_to_score(tokens, tails))
        next_tokens = tails.values.astype(np.int64)
        log_probs = self.token_log_probs(decoded.states, np.arange(len(next_tokens)), next_tokens)
        self.crop(before)
        return np.bincount(tails.row_ids, log_probs, len(tails))

    def select(self, rows: np.ndarray) -> None:
        """Only the requests `rows` go on."""
        self.prefilled = self.prefilled.select(torch.from_numpy(rows).to(self.prompt_states.device))

    def crop(self, num_nodes: int) -> None:
        """Keep the first `num_nodes` tree nodes after each prompt, and their part of the key-value cache."""
        self.prefilled.crop(num_nodes)
        self.num_nodes = num_nodes


@dataclass(frozen=True, eq=False)
class Decoded:
    """Spans that have been decoded: the tree `nodes` [N] of each, and `states` [P, H] of all their tokens."""

    nodes: Ragged
    states: torch.Tensor

    @property
    def ends(self) -> np.ndarray:
        """[N] the index into `states` of each span's last token."""
        return self.nodes.ends


@dataclass(frozen=True, eq=False)
class Advance:
    """What one call gave for N prefixes, of which only some may have fitted into it.

    `inner` [A]: which of the N were decoded and are inner nodes; `inner_tree_nodes` [A] and `inner_states`
    [A, H] are where they ended.
    `leaves` [B]: which of the N were decoded and are leaves; `tail_log_probs` [B] has a row per leaf, of a
    float64 in nats per token of its tail. Both in the order of the N.
    """

    inner: np.ndarray
    inner_tree_nodes: np.ndarray
    inner_states: torch.Tensor
    leaves: np.ndarray
    tail_log_probs: Ragged


def advance(
    tree: DecodedTree, row: np.ndarray, node: np.ndarray, parent: np.ndarray, max_tokens: int
) -> Advance:
    """Decode prefixes: the last token of each inner node, and with a leaf the rest of its name, as much as
    fits into one call.

    `row`, `node`, `parent` [N]: the request, the trie node, and the tree node of the trie node's parent. Each
    request decodes the first of its prefixes, at most `max_tokens` tokens and at least one prefix. At least
    one prefix; no leaf of an empty tail.
    """
    # Choose: a prefix costs one token, a leaf as many as its tail has.
    is_leaf = tree.trie.is_leaf(node)
    tails = _tails_of_leaves(tree, node, is_leaf)
    chosen = first_that_fit(row, np.maximum(tails.lengths, 1), max_tokens)

    # Lay out: in each row inner nodes come first, so that all that leads to leaves can be cropped.
    chosen = chosen[np.lexsort((is_leaf[chosen], row[chosen]))]
    row, is_leaf, tails = row[chosen], is_leaf[chosen], tails.take(chosen)

    # Decode.
    before = tree.num_nodes
    spans = spans_to_score(tree.trie.tokens_to(node[chosen]), tails)
    decoded = tree.decode(row, parent[chosen], spans)

    # Crop: keep as many new nodes as the row with the most inner nodes has.
    tree.crop(before + int(np.bincount(row[~is_leaf]).max(initial=0)))

    # Score: every state on the way to a leaf is asked for the token of the tail that follows it.
    on_leaf = torch.from_numpy(np.repeat(is_leaf, spans.lengths))
    log_probs = tree.token_log_probs(decoded.states[on_leaf], np.arange(len(tails.values)), tails.values)
    ends = decoded.ends[~is_leaf]
    return Advance(
        inner=chosen[~is_leaf],
        inner_tree_nodes=decoded.nodes.values[ends],
        inner_states=decoded.states[torch.from_numpy(ends)],
        leaves=chosen[is_leaf],
        tail_log_probs=Ragged(log_probs, offsets_of(tails.lengths[is_leaf])),
    )


def spans_to_score(tokens: np.ndarray, tails: Ragged) -> Ragged:
    """[N] what must be decoded to score the tails after `tokens` [N]: each token and its tail but the last,
    or the token alone where the tail is empty. Tokens [7, 8], tails [[1, 2, 3], []] -> [[7, 1, 2], [8]]."""
    first = Ragged(tokens.astype(np.int64), np.arange(len(tokens) + 1))
    last = np.zeros(len(tails.values), bool)
    last[tails.ends[tails.lengths > 0]] = True
    return hstack([first, Ragged(tails.values.astype(np.int64), tails.offsets).filter_values(~last)])


def first_that_fit(row: np.ndarray, length: np.ndarray, max_tokens: int) -> np.ndarray:
    """Indices of the first of each row that together have at most `max_tokens` tokens, and of one at least.
    Row [0, 0, 0, 1], length [2, 3, 1, 9], 5 tokens -> [0, 1, 3]."""
    total = np.cumsum(length)
    first = np.searchsorted(row, row)  # the first of the same row
    total_in_row = total - (total - length)[first]
    return np.flatnonzero((total_in_row <= max_tokens) | (first == np.arange(len(row))))


def _finite(log_probs: torch.Tensor) -> np.ndarray:
    """As float64. Raises SettingsError where one is not finite."""
    if not log_probs.isfinite().all():
        raise overflow()
    return log_probs.double().cpu().numpy()


def overflow() -> SettingsError:
    """The error for a model whose states are more than its precision holds."""
    return SettingsError(
        "a log-probability of the model is not finite, so its states overflow; open it in bfloat16 or "
        "float32."
    )


def _tails_of_leaves(tree: DecodedTree, nodes: np.ndarray, is_leaf: np.ndarray) -> Ragged:
    """[N] int64: the tail of each leaf, an empty row for an inner node."""
    tails = tree.tails(nodes[is_leaf])
    lengths = np.zeros(len(nodes), np.int64)
    lengths[is_leaf] = tails.lengths
    return Ragged(tails.values, offsets_of(lengths))
