"""Samples whose targets are names of items: which items, and what each token of a name may be instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from shelftalk.models.text_encoder import Encoded
from shelftalk.ragged import Ragged
from shelftalk.tasks.samples import Samples


def named_targets(names: Ragged, items: np.ndarray, sample: Encoded) -> np.ndarray:
    """The items, of those that a sample was made of, whose names bear loss: the last ones.

    `names` [I] rows of token ids, `items` the numbers of the sample's items in it. Raises ValueError where
    the tokens that bear loss are no such names.
    """
    ids = sample.ids[sample.bears_loss]
    lengths = names.lengths[items][::-1].cumsum()
    number = int(np.searchsorted(lengths, len(ids))) + 1
    targets = items[-number:]
    if not np.array_equal(names.take(targets).values, ids):
        raise ValueError("the tokens that bear loss are not the names of the sample's last items")
    return targets


class TrieTargets:
    """Makes each token of a target's name one of those that a name goes on with there: the sets of
    `Encoded.sets` are the nodes of an item trie.

    Tokens after a name's decisive one are certain and bear no loss any more. Example: names "red scarf", "red
    hat", "blue cap"; of the target "blue cap" the token "blue" is one of the root's [blue, red] and "cap"
    bears no loss.
    """

    def __init__(self, names: Ragged, nodes: Ragged, row_of: Mapping[str, int], task: str) -> None:
        """`names` [I] rows of token ids, `nodes` [I] for each of those tokens the node that it follows, below
        0 where it is certain; `row_of`: item id -> row of both; `task`: whose samples."""
        self._names, self._nodes = names, nodes
        self._row_of, self._task = row_of, task

    def add(self, samples: Samples, encoded: Sequence[Encoded]) -> list[Encoded]:
        """The encoded samples, those of the task with sets. Raises what `named_targets` raises."""
        changed = list(encoded)
        # a file of samples numbers items by itself
        number_of_item = np.array([self._row_of[item] for item in samples.tables.item_ids], np.int64)
        for position in samples.positions(self._task).tolist():
            sample = encoded[position]
            targets = named_targets(self._names, number_of_item[samples.items[position]], sample)
            nodes = self._nodes.take(targets).values
            undecided = nodes >= 0
            bears_loss = sample.bears_loss.copy()
            bears_loss[sample.bears_loss] = undecided
            changed[position] = replace(
                sample,
                bears_loss=bears_loss,
                soft=sample.soft.take(undecided) if sample.soft else None,
                sets=nodes[undecided].astype(np.int32),
            )
        return changed
