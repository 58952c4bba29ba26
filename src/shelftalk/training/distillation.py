"""Distillation: what a teacher expects next, as soft targets beside the item that was taken.

    target = (1 - w) [the item taken] + w teacher,   teacher(j) ~ score(j)^(1 / T) over its N best items

For a name of several tokens the teacher's probability is summed under each token that an item's name
continues with, among the items whose names begin as the target's does so far; where none of its items does,
the target is the token of the item taken alone.

Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", arXiv 1503.02531. For token-level
targets under a trie: "Token-level collaborative alignment", arXiv 2601.18457.

Example: names a = [5, 1], b = [5, 2], c = [7]; a was taken, the teacher expects b with .6 and c with .4, w is
.5. The first token of a has the soft targets 5: .3, 7: .2, so that 5 has .8 with its own half; the second
one 2: .5.

Legend: E training events, N items of the teacher, S samples, L tokens that bear loss, D tokens of a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shelftalk.models.text_encoder import Encoded, SoftTargets
from shelftalk.ragged import Ragged, offsets_of
from shelftalk.tasks.samples import NOBODY, Samples
from shelftalk.training.named_targets import named_targets

NO_TOKEN = -1


@dataclass(frozen=True, eq=False)
class TeacherScores:
    """A teacher's best items after the training history before each of E training events: `items` [E, N]
    int32 catalogue rows and `scores` [E, N] float32, 0 for none.

    `user` and `item` [E] are those of the events, by user and oldest first; `user_number` and `row_of` tell
    the numbers of user and item ids.
    """

    user_number: Mapping[str, int]
    row_of: Mapping[str, int]
    user: np.ndarray
    item: np.ndarray
    items: np.ndarray
    scores: np.ndarray

    def probabilities(self, temperature: float) -> np.ndarray:
        """[E, N] float32, rows of sum 1, or 0 where the teacher expects nothing."""
        highest = self.scores.max(axis=1, keepdims=True, initial=0)
        powers = np.divide(self.scores, highest, where=highest > 0, out=np.zeros_like(self.scores))
        powers **= np.float32(1 / temperature)
        total = powers.sum(axis=1, keepdims=True)
        result: np.ndarray = np.divide(powers, total, where=total > 0, out=powers)
        return result


class Distillation:
    """Adds soft targets to the samples of a next-item task."""

    def __init__(
        self, teacher: TeacherScores, names: Ragged, task: str, weight: float, temperature: float
    ) -> None:
        """`names` [I] rows of token ids, in catalogue order, as a model decodes them; `task`: whose samples
        get soft targets."""
        self._names, self._task = names, task
        self._teacher = teacher
        self._weights = teacher.probabilities(temperature) * np.float32(weight)
        keys = teacher.user * len(names) + teacher.item
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def add(self, samples: Samples, encoded: Sequence[Encoded]) -> list[Encoded]:
        """The encoded samples, those of the task with soft targets.

        Raises what `named_targets` raises.
        """
        taught = list(encoded)
        # a file of samples numbers items and users by itself
        item_row = np.array([self._teacher.row_of[item] for item in samples.tables.item_ids], np.int64)
        users = [self._teacher.user_number[user] if user else NOBODY for user in samples.tables.user_ids]
        for position in samples.positions(self._task).tolist():
            one = encoded[position]
            targets = named_targets(self._names, item_row[samples.items[position]], one)
            rows = self._events(users[samples.user[position]], targets)
            taught[position] = replace(one, soft=self._soft(targets, rows))
        return taught

    def _events(self, user: int, items: np.ndarray) -> np.ndarray:
        """The teacher's row for each item of a user; of several events of one item the first; -1 for none."""
        keys = user * len(self._names) + items
        position = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[position] == keys, self._order[position], -1)

    def _soft(self, targets: np.ndarray, rows: np.ndarray) -> SoftTargets:
        """The soft targets of every token of the names of `targets`."""
        weights = self._weights[rows] * (rows >= 0)[:, None]
        return soft_targets(self._names, targets, self._teacher.items[rows], weights)


def soft_targets(names: Ragged, targets: np.ndarray, items: np.ndarray, weights: np.ndarray) -> SoftTargets:
    """[L] the soft targets of the tokens of the names of `targets` [T], from the teacher's `items` and
    `weights` [T, N]."""
    lengths = names.lengths[targets]
    total = weights.sum(axis=1)
    consistent = weights > 0  # [T, N] whose names begin as the target's does before the token at `depth`
    tokens = np.zeros((int(lengths.sum()), items.shape[1]), np.int32)
    shares = np.zeros(tokens.shape, np.float32)
    start = offsets_of(lengths)[:-1]
    for depth in range(int(lengths.max(initial=0))):
        rows = np.flatnonzero(lengths > depth)
        theirs = _token_at(names, items[rows], depth)
        mass = np.where(consistent[rows] & (theirs != NO_TOKEN), weights[rows], 0)
        left = mass.sum(axis=1, keepdims=True)
        scale = np.divide(total[rows, None], left, where=left > 0, out=np.zeros_like(left))
        at = start[rows] + depth
        tokens[at], shares[at] = np.maximum(theirs, 0), mass * scale
        own = _token_at(names, targets[rows, None], depth)
        consistent[rows] &= theirs == own
    return SoftTargets(tokens, shares)


def _token_at(names: Ragged, items: np.ndarray, depth: int) -> np.ndarray:
    """The token at `depth` of each item's name, NO_TOKEN where it has ended; the shape of `items`."""
    position = names.offsets[items] + depth
    inside = position < names.offsets[items + 1]
    return np.where(inside, names.values[np.where(inside, position, 0)], NO_TOKEN)
