"""LiveTrie: a trie that items join and leave without being built again.

What was built stays as it is, mapped from its file if it was. The nodes on the way to a new name are copied
beside it, each copy pointing at the old children that it does not change: path copying (Driscoll, Sarnak,
Sleator and Tarjan, Making Data Structures Persistent, STOC 1986). An item that is removed is excluded. Adding
costs what is new, not what is there.

Example: "red cap" is added as item 3 to the trie of item_trie.py, whose nodes are 0 to 4:

    node   prefix    copy of   children
    5      (root)       0      1 (old, blue), 6
    6      red          2      7, 3 (old, red hat), 4 (old, red scarf)
    7      red cap      -      none: the leaf of item 3

Legend as in item_trie.py, M old nodes and I old items; a new node's number is M + its index among the new
ones, a new item's or rank's number I + its index.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from shelftalk.decoding.item_trie import ItemTrie
from shelftalk.errors import BadValue, DuplicateName
from shelftalk.ragged import Ragged, offsets_of, ragged, vstack


@dataclass
class _Node:
    """A copy of an old node, or a new one."""

    children: dict[int, int | _Node] = field(default_factory=dict)
    """By token: an old node's number, or a node that is new itself. Empty at a leaf."""
    item: int = -1
    """The item of a leaf, else -1."""
    tail: tuple[int, ...] = ()
    """Tokens after a leaf."""
    old: int = -1
    """The old node whose ranks lie below this one as well, or -1."""


class LiveTrie:
    """`base` with the names `added` as items I, I + 1, ... and the items `removed` excluded from
    every search.

    Has the methods of an ItemTrie that searches and scorers call, so they take either. Immutable as that is:
    `with_names`, `without` and `with_restored` give another one that shares the old arrays, and a server
    swaps one for the next while searches still run.

    Raises DuplicateName where an added name is another's
    beginning or the whole of it, and BadValue for a removed item that is not there.
    """

    def __init__(
        self, base: ItemTrie, added: Sequence[Sequence[int]] = (), removed: Iterable[int] = ()
    ) -> None:
        self.base = base
        self.added = tuple(tuple(map(int, name)) for name in added)
        self.removed = self._numbers(removed)
        root: int | _Node = base.root
        for number, name in enumerate(self.added):
            root = self._insert(root, name, 0, base.items + number)
        self._freeze(root)

    def with_names(self, names: Sequence[Sequence[int]]) -> LiveTrie:
        """More items, numbered after those there are."""
        return LiveTrie(self.base, [*self.added, *names], self.removed)

    def without(self, items: Iterable[int]) -> LiveTrie:
        """Fewer items; their numbers stay theirs."""
        return self.with_removed({*self.removed.tolist(), *items})

    def with_restored(self, items: Iterable[int]) -> LiveTrie:
        """Removed items back."""
        return self.with_removed(set(self.removed.tolist()) - {*items})

    def with_removed(self, removed: Iterable[int]) -> LiveTrie:
        """The same names, of which exactly these are removed."""
        other = copy.copy(self)
        other.removed = self._numbers(removed)
        return other

    def _numbers(self, items: Iterable[int]) -> np.ndarray:
        """Sorted, each once."""
        numbers = np.unique(np.fromiter(items, np.int64))
        if len(numbers) and not 0 <= numbers[0] <= numbers[-1] < self.items:
            raise BadValue(
                f"the items to be removed must be among 0 to {self.items - 1}; leave out what is not there."
            )
        return numbers

    def __len__(self) -> int:
        """Number of nodes, copies included."""
        return len(self.base) + len(self._nodes)

    @property
    def items(self) -> int:
        """Number of items, removed ones included."""
        return self.base.items + len(self.added)

    # --- lookups (see ItemTrie) --------------------------------------------------------------------------

    def children(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        new = nodes >= len(self.base)
        if not new.any():
            return self.base.children(nodes)
        old_index, new_index = np.flatnonzero(~new), np.flatnonzero(new)
        old_origin, old_child = self.base.children(nodes[old_index])
        children = self._children.take(nodes[new_index] - len(self.base))
        origin = np.concatenate([old_index[old_origin], new_index[children.row_ids]])
        child = np.concatenate([old_child, children.values])
        order = np.argsort(origin, kind="stable")
        return origin[order], child[order]

    def tokens_to(self, nodes: np.ndarray) -> np.ndarray:
        return self._either(nodes, self.base.token, self._token)

    def parents(self, nodes: np.ndarray) -> np.ndarray:
        """The copy of a parent that was copied."""
        return self._current(self._either(nodes, self.base.parent, self._parent))

    def positions(self, nodes: np.ndarray) -> np.ndarray:
        """New nodes, then old ones: what is above a new node is new."""
        return (nodes + len(self._nodes)) % len(self)

    def is_leaf(self, nodes: np.ndarray) -> np.ndarray:
        new, old = self._split(nodes)
        return np.where(
            new, self._item[np.where(new, nodes - len(self.base), 0)] >= 0, self.base.is_leaf(old)
        )

    def items_at(self, leaves: np.ndarray) -> np.ndarray:
        new, old = self._split(leaves)
        return np.where(new, self._item[np.where(new, leaves - len(self.base), 0)], self.base.items_at(old))

    def tails(self, leaves: np.ndarray) -> Ragged:
        new, old = self._split(leaves)
        old_then_new = vstack([self.base.tails(old), self._tail.take(leaves[new] - len(self.base))])
        row = np.arange(len(leaves))
        row[new] = len(leaves) + np.arange(int(new.sum()))
        return old_then_new.take(row)

    def tail_lengths(self, leaves: np.ndarray) -> np.ndarray:
        new, old = self._split(leaves)
        return np.where(
            new, self._tail.lengths[np.where(new, leaves - len(self.base), 0)], self.base.tail_lengths(old)
        )

    def leaves_of(self, items: np.ndarray) -> np.ndarray:
        new = items >= self.base.items
        old = self._current(self.base.leaves_of(np.where(new, 0, items)), leaf=True)
        return np.where(new, self._leaf[np.where(new, items - self.base.items, 0)], old) if new.any() else old

    def ranges(self, nodes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Old ranks and new ranks below each node."""
        new, _ = self._split(nodes)
        number = np.where(new, nodes - len(self.base), 0)
        old = np.where(new, self._old[number], nodes)  # the old node whose ranks count, or -1
        ((first, last),) = self.base.ranges(np.maximum(old, 0))
        last = np.where(old >= 0, last, first)
        return [(first, last), (np.where(new, self._first[number], 0), np.where(new, self._last[number], 0))]

    def ranks_of(self, items: np.ndarray) -> np.ndarray:
        new = items >= self.base.items
        old = self.base.ranks_of(np.where(new, 0, items))
        return np.where(new, self._rank[np.where(new, items - self.base.items, 0)], old) if new.any() else old

    def _either(self, nodes: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
        is_new, safe = self._split(nodes)
        return np.where(is_new, new[np.where(is_new, nodes - len(self.base), 0)], old[safe]).astype(np.int64)

    def _current(self, nodes: np.ndarray, leaf: bool = False) -> np.ndarray:
        """The copies of old inner nodes (or, `leaf`, of old leaves) that were copied; all others as
        they are."""
        old, copies = self._leaf_copies if leaf else self._inner_copies
        index = np.minimum(np.searchsorted(old, nodes), len(old) - 1)
        return np.where(old[index] == nodes, copies[index], nodes) if len(old) else nodes

    def _split(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which nodes are new, and the nodes with the old root in place of each of those."""
        new = nodes >= len(self.base)
        return new, np.where(new, self.base.root, nodes)

    # --- making the copies -------------------------------------------------------------------------------

    def _insert(self, at: int | _Node, name: tuple[int, ...], depth: int, item: int) -> _Node:
        """The node at `depth` of the name's path, changed to hold the name below it."""
        top = node = self._changeable(at)
        for position, token in enumerate(name[depth:], depth):
            if node.item >= 0:  # a leaf: the two names differ further down
                self._push_down(node, item)
            below = node.children.get(token)
            if below is None:
                node.children[token] = _Node(item=item, tail=name[position + 1 :])
                return top
            child = self._changeable(below)
            node.children[token] = child
            node = child
        raise DuplicateName(
            f"the tokens of added item {item} are the beginning of another item's name, or the whole of it; "
            "close every name with an end token and tell equal names apart."
        )

    def _changeable(self, node: int | _Node) -> _Node:
        """A copy of an old node; a new node itself."""
        if isinstance(node, _Node):
            return node
        at = np.array([node])
        if node != self.base.root and self.base.is_leaf(at)[0]:
            return _Node(
                item=int(self.base.items_at(at)[0]), tail=tuple(self.base.tails(at)[0].tolist()), old=node
            )
        children = self.base.children(at)[1]
        return _Node(
            dict(zip(self.base.tokens_to(children).tolist(), children.tolist(), strict=True)), old=node
        )

    def _push_down(self, node: _Node, by: int) -> None:
        """Make an inner node of a leaf, with its item one token further down."""
        if not node.tail:
            raise DuplicateName(
                f"the name of item {node.item} is the beginning of added item {by}'s; close every name with "
                "an end token."
            )
        node.children[node.tail[0]] = _Node(item=node.item, tail=node.tail[1:], old=node.old)
        node.item, node.tail = -1, ()

    def _freeze(self, root: int | _Node) -> None:
        """Number the new nodes, each before those below it, and lay them out in arrays."""
        self._nodes = list(_below(root)) if isinstance(root, _Node) else []
        number = {id(node): len(self.base) + index for index, node in enumerate(self._nodes)}
        self.root = number[id(root)] if isinstance(root, _Node) else root
        count = len(self._nodes)
        nodes = self._nodes or [_Node()]  # something to point at where nothing is new
        self._item = np.array([node.item for node in nodes])
        self._old = np.array([node.old for node in nodes])
        self._tail = ragged([node.tail for node in nodes])
        self._token, self._parent = np.full(len(nodes), -1), np.full(len(nodes), -1)
        self._leaf, self._rank = (np.zeros(max(1, len(self.added)), np.int64) for _ in range(2))
        rows = []
        for index, node in enumerate(nodes[:count]):
            row = []
            for token, child in sorted(node.children.items(), key=lambda pair: pair[0]):
                row.append(number[id(child)] if isinstance(child, _Node) else child)
                if isinstance(child, _Node):
                    child_index = row[-1] - len(self.base)
                    self._token[child_index], self._parent[child_index] = token, len(self.base) + index
            rows.append(row)
        self._children = ragged(rows or [[]])
        is_copy, is_leaf = self._old >= 0, self._item >= 0
        self._leaf_copies = self._copies(is_copy & is_leaf)
        # a leaf that was pushed down is no copy of an inner node
        was_leaf = self.base.is_leaf(np.maximum(self._old, self.base.root))
        self._inner_copies = self._copies(is_copy & ~is_leaf & ~was_leaf)
        self._rank_new(nodes)

    def _copies(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The old nodes that the `chosen` new ones are copies of, ascending, and the copies."""
        index = np.flatnonzero(chosen)
        index = index[np.argsort(self._old[index])]
        return self._old[index], len(self.base) + index

    def _rank_new(self, nodes: Sequence[_Node]) -> None:
        """New ranks in the order of the new nodes, which is depth first: those below a node are one range."""
        new = self._item >= self.base.items
        before = self.base.items + offsets_of(new)  # [new nodes + 1] new ranks before each
        leaves = np.flatnonzero(new)
        self._leaf[self._item[leaves] - self.base.items] = len(self.base) + leaves
        self._rank[self._item[leaves] - self.base.items] = before[leaves]
        end = np.arange(1, len(nodes) + 1)  # index : end[index] are the new nodes at and below each
        for index in range(len(nodes) - 1, 0, -1):
            parent = int(self._parent[index]) - len(self.base)
            end[parent] = max(end[parent], end[index])
        self._first, self._last = before[:-1], before[end]


def _below(node: _Node) -> Iterator[_Node]:
    """The new nodes, depth first, children by token."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        by_token = sorted(node.children.items(), reverse=True, key=lambda pair: pair[0])
        stack += [child for _, child in by_token if isinstance(child, _Node)]
