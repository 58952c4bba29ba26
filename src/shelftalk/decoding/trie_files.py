"""The files of an item trie, read as what they are: bytes from outside. Checked in time and memory of their
own size.

Legend: M nodes, I items, P tokens. For what the arrays mean, see ItemTrie.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

ARRAYS: dict[str, type[np.integer]] = {
    "token": np.int32,
    "parent": np.int32,
    "first_child": np.int32,
    "first_rank": np.int32,
    "last_rank": np.int32,
    "item": np.int32,
    "leaf": np.int32,
    "rank": np.int32,
    "tail_bounds": np.int64,
    "tail": np.int32,
}
"""Name of an array -> its numbers; each is a file NAME.npy."""
LONGEST_NAME = 4096
"""Tokens of the longest name that is believed: walking a deeper trie would cost memory out of proportion to
its files."""


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of an item trie, mapped into memory and checked. Raises OSError or ValueError, which says
    what is wrong."""
    arrays = {name: _mapped(folder / f"{name}.npy", kind) for name, kind in ARRAYS.items()}
    check_arrays(arrays)
    return arrays


def check_arrays(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError where the arrays are no item trie: every search walks them without looking."""
    nodes, items = len(arrays["token"]), len(arrays["item"])
    _check_lengths(arrays, nodes, items)
    _check_tree(arrays["token"], arrays["parent"], arrays["first_child"])
    _check_depth(arrays["first_child"])
    _check_ranks(arrays, nodes, items)
    _check_tails(arrays["tail_bounds"], arrays["tail"])


def _mapped(path: Path, kind: type[np.integer]) -> np.ndarray:
    with np.errstate(over="ignore"):  # of a length that nobody has; the file is shorter
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    _must(array.ndim == 1 and array.dtype == kind, f"{path.name} is no row of {np.dtype(kind).name}")
    return array


def _check_lengths(arrays: Mapping[str, np.ndarray], nodes: int, items: int) -> None:
    wanted = dict.fromkeys(("token", "parent", "first_rank", "last_rank"), nodes) | dict.fromkeys(
        ("item", "leaf", "rank"), items
    )
    wanted |= {"first_child": nodes + 1, "tail_bounds": items + 1}
    _must(nodes > 1 and items > 0, "it has no item")
    for name, length in wanted.items():
        _must(len(arrays[name]) == length, f"{name}.npy holds {len(arrays[name])} numbers, not {length}")


def _check_tree(token: np.ndarray, parent: np.ndarray, first_child: np.ndarray) -> None:
    """Numbered breadth first, so that every parent stands before its children: there is no cycle,
    and one root."""
    nodes = len(token)
    _must(parent[0] == -1 and token[0] == -1, "its first node is no root")
    _must(
        bool((parent[1:] >= 0).all() and (parent[1:] < np.arange(1, nodes)).all()),
        "parent.npy names a node that is not above",
    )
    _must(bool((np.diff(parent) >= 0).all()), "the children of a node in parent.npy do not stand together")
    children = 1 + np.cumsum(np.bincount(parent[1:], minlength=nodes))
    _must(
        first_child[0] == 1 and np.array_equal(first_child[1:], children),
        "first_child.npy and parent.npy disagree",
    )
    siblings = parent[2:] == parent[1:-1]
    _must(
        bool((token[1:] >= 0).all() and (token[2:] > token[1:-1])[siblings].all()),
        "token.npy is not sorted below a node",
    )


def _check_depth(first_child: np.ndarray) -> None:
    start, stop = 0, 1
    for _ in range(LONGEST_NAME + 1):
        start, stop = int(first_child[start]), int(first_child[stop])  # the level below
        if start == stop:
            return
    raise ValueError(f"it has names of more than {LONGEST_NAME} tokens")


def _check_ranks(arrays: Mapping[str, np.ndarray], nodes: int, items: int) -> None:
    """The ranks below a node are those below its children, one after another; those of a leaf are one."""
    first, last = arrays["first_rank"].astype(np.int64), arrays["last_rank"].astype(np.int64)
    start, stop = arrays["first_child"][:-1], arrays["first_child"][1:]
    inner = np.flatnonzero(start < stop)
    leaves = np.flatnonzero(start == stop)
    siblings = np.flatnonzero(arrays["parent"][2:] == arrays["parent"][1:-1]) + 1
    _must(first[0] == 0 and last[0] == items, "the ranks below its root are not all")
    _must(bool((last[leaves] - first[leaves] == 1).all()) and len(leaves) == items, "a leaf has not one rank")
    outer = np.array_equal(first[inner], first[start[inner]]) and np.array_equal(
        last[inner], last[stop[inner] - 1]
    )
    _must(
        outer and np.array_equal(last[siblings], first[siblings + 1]),
        "the ranks of a node are not those of its children",
    )
    of_rank = np.empty(items, np.int64)
    of_rank[first[leaves]] = leaves  # 0 .. I - 1, each once, by what has been checked
    _must(np.array_equal(arrays["leaf"], of_rank), "leaf.npy names another node than the ranks do")
    item, rank = arrays["item"], arrays["rank"]
    _must(bool((item >= 0).all() and (item < items).all()), "item.npy names an item that is not there")
    _must(bool((rank >= 0).all() and (rank < items).all()), "rank.npy names a rank that is not there")
    _must(np.array_equal(rank[item], np.arange(items)), "item.npy and rank.npy disagree")


def _check_tails(bounds: np.ndarray, tail: np.ndarray) -> None:
    _must(
        bounds[0] == 0 and bounds[-1] == len(tail) and bool((np.diff(bounds) >= 0).all()),
        "tail_bounds.npy does not divide tail.npy",
    )
    _must(bool((np.diff(bounds) <= LONGEST_NAME).all()), f"it has names of more than {LONGEST_NAME} tokens")
    _must(bool((tail >= 0).all()), "tail.npy holds a number that is no token")


def _must(so: bool | np.bool_, else_: str) -> None:
    if not so:
        raise ValueError(else_)
