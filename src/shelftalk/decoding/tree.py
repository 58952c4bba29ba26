"""The tree of tokens that a search grows behind its prompts: flat lists of what to say above, one rectangle per call below.

Legend: R requests, N lines (a line is a run of tokens said one behind the other), P tokens of all lines, H hidden width.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch

from shelftalk.decoding.item_trie import Trie
from shelftalk.errors import SettingsError
from shelftalk.models.backbone import Prefilled
from shelftalk.tasks.ragged import Ragged, bounds_of, side_by_side

PROMPT = -1
"""The tree node of a prompt's end."""
SHRINK = 0.75
"""Requests that are done leave the batch when no more than this share of it still searches."""
SAID_AT_ONCE = 64
"""Tokens that a search says behind a prompt in one call, more or less: all prompts say as many, or the rest is padding."""


@dataclass
class Columns:
    """Arrays of one length, a row per beam or prefix: rows are chosen and joined for all of them at once."""

    def take(self, places: np.ndarray) -> Self:
        """The rows `places`, in that order."""
        return type(self)(*(getattr(self, field.name)[places] for field in fields(self)))

    def where(self, chosen: np.ndarray) -> Self:
        """The rows of a mask [N] bool."""
        return self.take(np.flatnonzero(chosen))

    def joined(self, other: Self) -> Self:
        """These rows, then the other's."""
        return type(self)(*(np.concatenate([getattr(self, field.name), getattr(other, field.name)]) for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Said:
    """Lines behind which something can be said: `nodes` [P] their tree nodes and `states` [P, H], both line by line."""

    lines: Ragged
    states: torch.Tensor

    @property
    def nodes(self) -> np.ndarray:
        return self.lines.values

    @property
    def ends(self) -> np.ndarray:
        """[N] the place of each line's last token."""
        return self.lines.bounds[1:] - 1


class Tree:
    """Prompts and what has been said behind each: begins at the prompts' ends, whatever an earlier search has said there."""

    def __init__(self, prefilled: Prefilled) -> None:
        prefilled.crop(0)
        self.prefilled = prefilled
        self.grown = 0
        """Tree nodes behind each prompt."""

    @property
    def start(self) -> torch.Tensor:
        """[R, H] the states at the prompts' ends."""
        return self.prefilled.states

    def say(self, row: np.ndarray, behind: np.ndarray, lines: Ragged) -> Said:
        """Say line n behind tree node `behind[n]` of request `row[n]`; rows ascend, and no line is empty."""
        owner = row[lines.owner]  # [P]
        place = np.arange(len(owner)) - np.searchsorted(owner, owner)
        node = self.grown + place
        parent = node - 1
        parent[lines.bounds[:-1]] = behind
        width = int(place.max()) + 1
        parents, tokens = (np.full((len(self.start), width), fill) for fill in (PROMPT, 0))
        parents[owner, place], tokens[owner, place] = parent, lines.values
        device = self.start.device
        states = self.prefilled.grow(torch.from_numpy(parents).to(device), torch.from_numpy(tokens).to(device))
        self.grown += width
        return Said(Ragged(node, lines.bounds), states[torch.from_numpy(owner), torch.from_numpy(place)])

    def log_probs_of(self, states: torch.Tensor, owner: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """[C] float64 nats: each token after the state of its owner; owners ascend. Raises SettingsError where one is not finite: a
        search would drop such items in silence, and a score of them be no number."""
        device = states.device
        found = self.prefilled.backbone.log_probs_of(states, torch.from_numpy(owner).to(device), torch.from_numpy(tokens).to(device))
        if not found.isfinite().all():
            raise overflow()
        return found.double().cpu().numpy()

    def keep(self, rows: np.ndarray) -> None:
        """Only the requests `rows` go on."""
        self.prefilled = self.prefilled.select(torch.from_numpy(rows).to(self.start.device))

    def crop(self, nodes: int) -> None:
        """Forget all tree nodes from number `nodes` on."""
        self.prefilled.crop(nodes)
        self.grown = nodes

    def forget_leaves(self, row: np.ndarray, leaf: np.ndarray, before: int) -> None:
        """Forget what leads to leaves among the lines [N] that were said `inner_first` when there were `before` nodes: memory grows with
        the prefixes that several items share, not with the lengths of names."""
        self.crop(before + int(np.bincount(row[~leaf]).max(initial=0)))


def inner_first(row: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    """Places of lines [N], in each row those that do not end at a leaf [N] in front: nothing is ever said behind the others, so they can
    be forgotten when they have been scored. Rows ascend."""
    return np.lexsort((leaf, row))


def overflow() -> SettingsError:
    """The error for a model whose states are more than its precision holds."""
    return SettingsError("a log-probability of the model is not finite, so its states overflow; open it in bfloat16 or float32.")


def jump_lines(tokens: np.ndarray, tails: Ragged) -> Ragged:
    """What must be said to score the tails behind `tokens` [N]: each token and its tail without the last token, or the token alone
    where the tail is empty."""
    heads = Ragged(tokens.astype(np.int64), np.arange(len(tokens) + 1))
    last = np.zeros(len(tails.values), bool)
    last[tails.bounds[1:][tails.lengths > 0] - 1] = True
    return side_by_side([heads, Ragged(tails.values.astype(np.int64), tails.bounds).kept(~last)])


def tails_behind(trie: Trie, nodes: np.ndarray) -> Ragged:
    """[N] the tokens behind each node that is a leaf, nothing behind an inner one."""
    leaf = trie.is_leaf(nodes)
    found = trie.tails(nodes[leaf])
    lengths = np.zeros(len(nodes), np.int64)
    lengths[leaf] = found.lengths
    return Ragged(found.values.astype(np.int64), bounds_of(lengths))


def best(row: np.ndarray, score: np.ndarray, node: np.ndarray, number: int) -> np.ndarray:
    """Places of the `number` best candidates of each row, best first, rows ascending; equal scores by trie node."""
    order = np.lexsort((node, -score, row))
    row = row[order]
    return order[np.arange(len(row)) - np.searchsorted(row, row) < number]


def fits(row: np.ndarray, length: np.ndarray, room: int) -> np.ndarray:
    """Places of the lines [N] that are said in one call: of each row, from its first on, as many as there is room for, and at least one.
    Rows ascend."""
    behind = np.cumsum(length)
    first = np.searchsorted(row, row)
    total = behind - (behind - length)[first]
    return np.flatnonzero((total <= room) | (first == np.arange(len(row))))
