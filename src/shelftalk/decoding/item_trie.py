"""ItemTrie: all item names as token sequences in flat arrays. Its leaves are exactly the catalogue.

An inner node is a prefix that several items share. As soon as a prefix belongs to one item alone it is that
item's *leaf*, and the tokens that remain are the leaf's *tail* (a title of twenty tokens is often decided
after six): a catalogue of a million titles has some two million nodes, not fifteen. Nodes are numbered
breadth first from 0, the root; the children of a node are one range of nodes, sorted by token. The leaves in
the order of their token sequences have *ranks* 0 .. I - 1, so the items below a node are one range of ranks.

Example: item 0 is "red scarf", item 1 "blue cap", item 2 "red hat", of the tokens blue 0, cap 1, hat 2, red 3
and scarf 4:

    node   prefix       token  parent  children   ranks    leaf of  tail
    0      (root)         -1     -1    1 : 3      0 : 3
    1      blue            0      0    3 : 3      0 : 1    item 1   [cap]
    2      red             3      0    3 : 5      1 : 3
    3      red hat         2      2    5 : 5      1 : 2    item 2   []
    4      red scarf       4      2    5 : 5      2 : 3    item 0   []

Legend: M nodes, I items, N queried nodes or items, P tokens of all tails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from shelftalk.decoding.trie_building import build_levels
from shelftalk.decoding.trie_files import read_arrays
from shelftalk.errors import reading
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.models.backbone import Backbone
from shelftalk.ragged import Ragged, concatenated_ranges, hstack, offsets_of, slices

ARRAY_FILES = "{}.npy"
IN_TAIL = -1


class Trie(Protocol):
    """The methods of a trie that searches and scorers call: of an ItemTrie, or a LiveTrie over one.
    See ItemTrie."""

    @property
    def root(self) -> int: ...

    @property
    def removed(self) -> np.ndarray: ...

    @property
    def items(self) -> int: ...

    def __len__(self) -> int: ...

    def children(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...

    def tokens_to(self, nodes: np.ndarray) -> np.ndarray: ...

    def parents(self, nodes: np.ndarray) -> np.ndarray: ...

    def positions(self, nodes: np.ndarray) -> np.ndarray: ...

    def is_leaf(self, nodes: np.ndarray) -> np.ndarray: ...

    def items_at(self, leaves: np.ndarray) -> np.ndarray: ...

    def tails(self, leaves: np.ndarray) -> Ragged: ...

    def tail_lengths(self, leaves: np.ndarray) -> np.ndarray: ...

    def leaves_of(self, items: np.ndarray) -> np.ndarray: ...

    def ranges(self, nodes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]: ...

    def ranks_of(self, items: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class ItemTrie:
    """Flat arrays, int32 but for `tail_bounds`.

    Over nodes [M]: `token`, that leads to the node (-1 at the root); `parent` (-1 at the root); `first_child`
    [M + 1], the children of n being first_child[n] : first_child[n + 1]; `first_rank` and `last_rank`, the
    ranks below it being first_rank : last_rank.
    Over ranks [I]: `item`, its number; `leaf`, its node; `tail_bounds` [I + 1] into `tail` [P], the tokens
    after the leaf.
    Over items [I]: `rank`.
    """

    token: np.ndarray
    parent: np.ndarray
    first_child: np.ndarray
    first_rank: np.ndarray
    last_rank: np.ndarray
    item: np.ndarray
    leaf: np.ndarray
    rank: np.ndarray
    tail_bounds: np.ndarray
    tail: np.ndarray
    root: ClassVar[int] = 0
    removed: ClassVar[np.ndarray] = np.zeros(0, np.int64)  # nothing is; see LiveTrie

    def __len__(self) -> int:
        """Number of nodes, the root included."""
        return len(self.token)

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.item)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))

    @cached_property
    def depth(self) -> int:
        """Tokens of the longest name."""
        return int((self._leaf_depths() + np.diff(self.tail_bounds)).max())

    # --- lookups by whole arrays of nodes ----------------------------------------------------------------

    def children(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """([C], [C]) for `nodes` [N]: the index into `nodes` that each child comes from, and the child; by
        index, then by token."""
        first = self.first_child[nodes].astype(np.int64)
        number = self.first_child[nodes + 1] - first
        return np.repeat(np.arange(len(nodes)), number), concatenated_ranges(first, number)

    def tokens_to(self, nodes: np.ndarray) -> np.ndarray:
        """[N] the token that leads to each node."""
        result: np.ndarray = self.token[nodes].astype(np.int64)
        return result

    def parents(self, nodes: np.ndarray) -> np.ndarray:
        """[N] the node above each; -1 above the root."""
        result: np.ndarray = self.parent[nodes].astype(np.int64)
        return result

    def positions(self, nodes: np.ndarray) -> np.ndarray:
        """[N] the position of each node in an order in which parents come before their children: its
        number."""
        return nodes

    def is_leaf(self, nodes: np.ndarray) -> np.ndarray:
        """[N] bool."""
        result: np.ndarray = self.first_child[nodes] == self.first_child[nodes + 1]
        return result

    def items_at(self, leaves: np.ndarray) -> np.ndarray:
        """[N] the item of each leaf."""
        result: np.ndarray = self.item[self.first_rank[leaves]].astype(np.int64)
        return result

    def tails(self, leaves: np.ndarray) -> Ragged:
        """[N] the tokens after each leaf; an empty row where its path is the whole name."""
        ranks = self.first_rank[leaves]
        return slices(self.tail, self.tail_bounds[ranks], self.tail_bounds[ranks + 1])

    def tail_lengths(self, leaves: np.ndarray) -> np.ndarray:
        """[N] the number of tokens of each tail."""
        ranks = self.first_rank[leaves]
        result: np.ndarray = self.tail_bounds[ranks + 1] - self.tail_bounds[ranks]
        return result

    def leaves_of(self, items: np.ndarray) -> np.ndarray:
        """[N] the leaf of each item number."""
        result: np.ndarray = self.leaf[self.rank[items]].astype(np.int64)
        return result

    def ranges(self, nodes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """The ranks below each node as ranges first : last, each (first [N], last [N]): one for a trie that
        nothing was added to."""
        return [(self.first_rank[nodes].astype(np.int64), self.last_rank[nodes].astype(np.int64))]

    def ranks_of(self, items: np.ndarray) -> np.ndarray:
        """[N] the rank of each item number."""
        result: np.ndarray = self.rank[items].astype(np.int64)
        return result

    # --- whole names -------------------------------------------------------------------------------------

    def names(self, items: np.ndarray) -> Ragged:
        """[N] the token sequence of each item."""
        leaves = self.leaves_of(items)
        return hstack([self._along_paths(self.token, leaves), self.tails(leaves)])

    def nodes_before(self, items: np.ndarray) -> Ragged:
        """[N] for each token of an item's name the node that it follows, IN_TAIL where that is none."""
        leaves = self.leaves_of(items)
        tails = self.tails(leaves)
        none = Ragged(np.full(len(tails.values), IN_TAIL), tails.offsets)
        return hstack([self._along_paths(self.parent, leaves), none])

    def next_tokens(self) -> Ragged:
        """[M] the tokens to the children of each node, ascending; none at a leaf."""
        return Ragged(self.token[1:], self.first_child.astype(np.int64) - 1)

    def _along_paths(self, values: np.ndarray, leaves: np.ndarray) -> Ragged:
        """[N] the values [M] of the nodes from below the root to each leaf; none of them below 0."""
        rounds, node = [], leaves
        while (below_root := node > self.root).any():  # from the leaves up, one node per round
            rounds.append(np.where(below_root, values[node], -1))
            node = np.where(below_root, self.parent[node], self.root)
        path = np.array(rounds[::-1], np.int64).T  # [N, depth], -1 in front of a short one
        padded = Ragged(path.ravel(), np.arange(len(leaves) + 1) * path.shape[1])
        return padded.filter_values(path.ravel() >= 0)

    def _leaf_depths(self) -> np.ndarray:
        """[I] tokens from the root to each leaf, by rank."""
        depths, node = np.zeros(self.items, np.int64), self.leaf.astype(np.int64)
        while (below_root := node > self.root).any():
            depths += below_root
            node = np.where(below_root, self.parent[node], self.root)
        return depths

    # --- files -------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """One .npy file per array in a new or empty folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for field in fields(self):
            np.save(folder / ARRAY_FILES.format(field.name), getattr(self, field.name))


def open_trie(folder: Path) -> ItemTrie:
    """The trie that `ItemTrie.save` wrote, checked once and mapped into memory: what is not needed does not
    stay there. Raises UnreadableFile where the files are no item trie."""
    with reading(f'"{folder}" is not a whole item trie', "delete that folder, and the trie is made anew"):
        return ItemTrie(**read_arrays(folder))


def build_trie(names: Ragged | Sequence[Sequence[int]], workers: int = 1) -> ItemTrie:
    """The trie of token sequences; `names[i]` are the tokens of item i, none of them negative.

    `workers` threads sort and split different first tokens at once. The result does not depend on their
    number. Raises ValueError for no item or an empty name, and DuplicateName where a name is equal to another
    or its beginning: close every name by an end token, or give all of them one length.
    """
    tokens, offsets = _flat(names)
    if len(offsets) < 2 or (np.diff(offsets) == 0).any():
        raise ValueError("an item trie needs at least one item and no empty name")
    levels, item = build_levels(tokens, offsets, workers)

    # Over nodes: the root, then the levels one after the other.
    level_starts = offsets_of([1, *(len(level.token) for level in levels)])
    above = zip(level_starts, levels, strict=False)  # each level with the first node of the level above it
    parent = np.concatenate([[-1], *(start + level.parent for start, level in above)])
    token = np.concatenate([[-1], *(level.token for level in levels)]).astype(np.int32)
    first_rank = np.concatenate([[0], *(level.start for level in levels)]).astype(np.int32)
    last_rank = np.concatenate([[len(item)], *(level.stop for level in levels)]).astype(np.int32)
    children = np.bincount(parent[1:], minlength=len(parent))
    first_child = np.concatenate([[1], 1 + np.cumsum(children)]).astype(np.int32)
    parent = parent.astype(np.int32)

    # Over ranks: the node below which a rank stands alone is its leaf.
    leaf, depth = np.empty(len(item), np.int32), np.empty(len(item), np.int32)
    for number, (start, level) in enumerate(zip(level_starts[1:], levels, strict=False), 1):
        alone = np.flatnonzero(level.stop - level.start == 1)
        leaf[level.start[alone]], depth[level.start[alone]] = start + alone, number
    tails = slices(tokens, offsets[item] + depth, offsets[item + 1])
    tail = tails.values.astype(np.int32)

    # Over items.
    rank = np.empty(len(item), np.int32)
    rank[item] = np.arange(len(item), dtype=np.int32)
    item = item.astype(np.int32)
    return ItemTrie(token, parent, first_child, first_rank, last_rank, item, leaf, rank, tails.offsets, tail)


def trie_of(backbone: Backbone, index: ItemIndex, workers: int = 1) -> ItemTrie:
    """The trie of an index's names as the backbone reads them; item numbers are rows of the index."""
    return build_trie(backbone.encode_names([index.segments(item) for item in index.item_ids]), workers)


def _flat(names: Ragged | Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(names, Ragged):
        return names.values, names.offsets
    lengths = np.fromiter(map(len, names), np.int64, len(names))
    tokens = np.fromiter((token for name in names for token in name), np.int32, int(lengths.sum()))
    return tokens, offsets_of(lengths)
