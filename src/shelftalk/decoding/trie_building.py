"""How a trie is made: level by level, all groups of names that share a prefix at once; a name that shares it
with no other is done.

Example: names "red scarf" (0), "blue cap" (1), "red hat" (2); tokens blue 0, cap 1, hat 2, red 3, scarf 4.
All ranks are one group at first; `item` is which name has each rank.

    sorted by   item        level
    token 0     [1, 0, 2]   1: blue, ranks 0 : 1, alone and done; red, ranks 1 : 3, a group that goes on
    token 1     [1, 2, 0]   2: hat, ranks 1 : 2; scarf, ranks 2 : 3; of both the parent is 1, "red" in level 1

Legend: I names, P tokens, G groups, A names in them, C children.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from shelftalk.errors import DuplicateName
from shelftalk.ragged import concatenated_ranges, offsets_of

TOKEN_BITS = 32


@dataclass(frozen=True, eq=False)
class Level:
    """The nodes of one depth [C]: token; parent, counted within the level above; ranks, start : stop."""

    token: np.ndarray
    parent: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def build_levels(tokens: np.ndarray, offsets: np.ndarray, workers: int) -> tuple[list[Level], np.ndarray]:
    """The levels below the root, and [I] int64 which name has each rank. `tokens` [P] and `offsets` [I + 1]
    are the names, in rows."""
    item = np.arange(len(offsets) - 1)
    top = _split(item, tokens, offsets, np.array([0]), np.array([len(item)]), 0)
    if len(item) == 1:
        return [top], item
    cuts = _even_cuts(top.stop, workers)
    parts = [slice(first, last) for first, last in zip(cuts, cuts[1:], strict=False)]

    def below(part: slice) -> list[Level]:  # parts touch different ranks, so they share `item` without harm
        return _levels_below(
            item, tokens, offsets, Level(top.token[part], top.parent[part], top.start[part], top.stop[part])
        )

    if len(parts) == 1:
        return [top, *below(parts[0])], item
    with ThreadPoolExecutor(len(parts)) as pool:  # numpy sorts without the interpreter's lock
        levels_of_parts = list(pool.map(below, parts))
    return [top, *_merged([part.stop - part.start for part in parts], levels_of_parts)], item


def _levels_below(item: np.ndarray, tokens: np.ndarray, offsets: np.ndarray, above: Level) -> list[Level]:
    """The levels below the nodes of `above`, which are one token deep."""
    levels: list[Level] = []
    while True:
        shared = np.flatnonzero(above.stop - above.start > 1)
        if not len(shared):
            return levels
        level = _split(item, tokens, offsets, above.start[shared], above.stop[shared], 1 + len(levels))
        above = Level(level.token, shared[level.parent], level.start, level.stop)
        levels.append(above)


def _split(
    item: np.ndarray, tokens: np.ndarray, offsets: np.ndarray, start: np.ndarray, stop: np.ndarray, depth: int
) -> Level:
    """Sort each group of ranks start : stop [G] by the token at `depth`, in place in `item`: its runs of one
    token are children."""
    # The token of every name of every group.
    size = stop - start
    ranks = concatenated_ranges(start, size)  # [A]
    names = item[ranks]
    position = offsets[names] + depth
    if (ended := position >= offsets[names + 1]).any():
        raise DuplicateName(
            f"the tokens of item {names[ended.argmax()]} are the beginning of another item's name, or the "
            "whole of it; close every name with an end token and tell equal names apart."
        )

    # One sort for all groups: by group, then by token.
    key = (np.repeat(np.arange(len(start)), size) << TOKEN_BITS) | tokens[position]
    order = np.argsort(key)
    item[ranks], key = names[order], key[order]

    # A child begins where the key changes.
    first = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    last = np.r_[first[1:], len(key)] - 1
    return Level(
        key[first] & ((1 << TOKEN_BITS) - 1), key[first] >> TOKEN_BITS, ranks[first], ranks[last] + 1
    )


def _even_cuts(stop: np.ndarray, parts: int) -> list[int]:
    """Where to cut the first level, whose ranks end at `stop`, into about equal numbers of names."""
    wanted = np.arange(1, parts) * int(stop[-1]) / parts
    return sorted({0, *np.searchsorted(stop, wanted).tolist(), len(stop)})


def _merged(above: Sequence[int], parts: Sequence[Sequence[Level]]) -> list[Level]:
    """The levels of all parts as if they had been made at once; `above` are the parts' numbers of nodes in
    the level above."""
    merged: list[Level] = []
    for depth in range(max(map(len, parts))):
        offsets = offsets_of(above)
        levels = [
            (offset, part[depth]) for offset, part in zip(offsets, parts, strict=False) if depth < len(part)
        ]
        merged.append(
            Level(
                np.concatenate([level.token for _, level in levels]),
                np.concatenate([offset + level.parent for offset, level in levels]),
                np.concatenate([level.start for _, level in levels]),
                np.concatenate([level.stop for _, level in levels]),
            )
        )
        above = [len(part[depth].token) if depth < len(part) else 0 for part in parts]
    return merged
