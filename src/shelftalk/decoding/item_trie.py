"""ItemTrie: all item names as token sequences in flat arrays. Its leaves are exactly the catalogue.

Legend: nodes 0 .. M-1, 0 the root, numbered breadth first; the children of a node are one run of nodes, sorted by token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shelftalk.errors import DuplicateName


class ItemTrie:
    """Flat arrays over nodes: `first_child` [M + 1] (children of n: first_child[n] : first_child[n + 1]), `token` [M] (the
    token that leads to the node; -1 at the root), `parent` [M], `leaf_item` [M] (item number at a leaf, -1 elsewhere).

    `sequences[i]` are the tokens of item i. No sequence may be the beginning of another or equal to it: names end in an
    end mark or have one length, and DuplicateName is raised otherwise.
    """

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        if not len(sequences) or min(map(len, sequences)) == 0:
            raise ValueError("an item trie needs at least one item and no empty name")
        order = sorted(range(len(sequences)), key=lambda item: tuple(sequences[item]))
        self.items = len(sequences)
        self.depth = max(map(len, sequences))
        self._build([tuple(sequences[item]) for item in order], order)

    def _build(self, rows: list[tuple[int, ...]], order: list[int]) -> None:
        """Level by level: the sorted rows that share a prefix are one run, and each run is a node."""
        tokens, parents, leaves, counts = [-1], [-1], [-1], []
        runs = [(0, len(rows))]  # of the nodes of this level, in order
        level_start = 0
        depth = 0
        while runs:
            next_runs = []
            for offset, (start, stop) in enumerate(runs):
                node = level_start + offset
                if leaves[node] >= 0:
                    counts.append(0)
                    continue
                children = self._children(rows, start, stop, depth)
                counts.append(len(children))
                for first, last, token, ends in children:
                    tokens.append(token)
                    parents.append(node)
                    leaves.append(order[first] if ends else -1)
                    next_runs.append((first, last))
            level_start += len(runs)
            runs = next_runs
            depth += 1
        self.token = np.array(tokens, np.int32)
        self.parent = np.array(parents, np.int32)
        self.leaf_item = np.array(leaves, np.int32)
        self.first_child = np.concatenate([[1], 1 + np.cumsum(counts)]).astype(np.int32)
        self.leaf_of = np.empty(self.items, np.int32)
        self.leaf_of[self.leaf_item[self.leaf_item >= 0]] = np.flatnonzero(self.leaf_item >= 0)

    @staticmethod
    def _children(rows: list[tuple[int, ...]], start: int, stop: int, depth: int) -> list[tuple[int, int, int, bool]]:
        """Runs of equal tokens at `depth`: (first row, last row + 1, token, whether an item ends there)."""
        children = []
        first = start
        for row in range(start + 1, stop + 1):
            if row < stop and rows[row][depth] == rows[first][depth]:
                continue
            ends = len(rows[first]) == depth + 1
            if ends and row - first > 1:
                raise DuplicateName(
                    "the token sequence of one item's name is the beginning of another's; end every name in a mark."
                )
            children.append((first, row, rows[first][depth], ends))
            first = row
        return children

    def __len__(self) -> int:
        """Number of nodes, the root included."""
        return len(self.token)

    def children(self, node: int) -> np.ndarray:
        """Nodes below `node`, sorted by token."""
        return np.arange(self.first_child[node], self.first_child[node + 1])

    def path(self, item: int) -> list[int]:
        """Nodes from below the root to the item's leaf."""
        node, nodes = int(self.leaf_of[item]), []
        while node > 0:
            nodes.append(node)
            node = int(self.parent[node])
        return nodes[::-1]

    def live(self, hidden: np.ndarray) -> np.ndarray:
        """[R, M] bool: the nodes below which at least one item is left, for `hidden` [R, I] bool items per request.

        A node is open only while a live leaf lies below it, so a search inside never meets a dead end.
        """
        live = np.zeros((len(hidden), len(self)), bool)
        leaves = np.flatnonzero(self.leaf_item >= 0)
        live[:, leaves] = ~hidden[:, self.leaf_item[leaves]]
        for level in reversed(self._levels()):
            inner = level[self.leaf_item[level] < 0]
            if len(inner):
                # children of consecutive inner nodes are consecutive runs: one reduction per level
                starts, stop = self.first_child[inner], self.first_child[inner[-1] + 1]
                live[:, inner] = np.logical_or.reduceat(live[:, :stop], starts, axis=1)
        return live

    def _levels(self) -> list[np.ndarray]:
        levels, start, stop = [], 0, 1
        while start < stop:
            levels.append(np.arange(start, stop))
            start, stop = stop, int(self.first_child[stop])
        return levels
