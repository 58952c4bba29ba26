"""How a trie is made: level by level, all groups of one prefix at once, and a name leaves as soon as it stands alone.

Legend: I names, G groups (prefixes that several names share), A names in them, C children.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from shelftalk.errors import DuplicateName
from shelftalk.tasks.ragged import bounds_of

TOKEN_BITS = 32


@dataclass(frozen=True, eq=False)
class Level:
    """The nodes of one depth [C]: token; parent, counted within the level above; and their ranks, start : stop."""

    token: np.ndarray
    parent: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def build_levels(tokens: np.ndarray, bounds: np.ndarray, workers: int) -> tuple[list[Level], np.ndarray]:
    """The levels below the root, and [I] int64 which name has each rank. `tokens` [P] and `bounds` [I + 1] are the names, in rows."""
    rows = np.arange(len(bounds) - 1)
    top = _split(rows, tokens, bounds, np.array([0]), np.array([len(rows)]), 0)
    if len(rows) == 1:
        return [top], rows
    cuts = _even_cuts(top.stop, workers)
    parts = [slice(first, last) for first, last in zip(cuts, cuts[1:], strict=False)]

    def below(part: slice) -> list[Level]:  # parts touch different ranks, so they share `rows` without harm
        return _levels_below(rows, tokens, bounds, Level(top.token[part], top.parent[part], top.start[part], top.stop[part]))

    if len(parts) == 1:
        return [top, *below(parts[0])], rows
    with ThreadPoolExecutor(len(parts)) as pool:  # numpy sorts without the interpreter's lock
        found = list(pool.map(below, parts))
    return [top, *_side_by_side([part.stop - part.start for part in parts], found)], rows


def _levels_below(rows: np.ndarray, tokens: np.ndarray, bounds: np.ndarray, above: Level) -> list[Level]:
    """The levels below the nodes of `above`, which are one token deep."""
    levels: list[Level] = []
    while True:
        shared = np.flatnonzero(above.stop - above.start > 1)
        if not len(shared):
            return levels
        level = _split(rows, tokens, bounds, above.start[shared], above.stop[shared], 1 + len(levels))
        above = Level(level.token, shared[level.parent], level.start, level.stop)
        levels.append(above)


def _split(rows: np.ndarray, tokens: np.ndarray, bounds: np.ndarray, start: np.ndarray, stop: np.ndarray, depth: int) -> Level:
    """Sort each group of ranks start : stop [G] by the token at `depth`, in place in `rows`: its runs of one token are children."""
    size = stop - start
    ranks = np.arange(size.sum()) + np.repeat(start - bounds_of(size)[:-1], size)  # [A]
    here = rows[ranks]
    place = bounds[here] + depth
    if (ended := place >= bounds[here + 1]).any():
        raise DuplicateName(
            f"the tokens of item {here[ended.argmax()]} are the beginning of another item's name, or the whole of it; "
            "end every name in a mark and tell equal names apart."
        )
    key = (np.repeat(np.arange(len(start)), size) << TOKEN_BITS) | tokens[place]
    order = np.argsort(key)
    rows[ranks], key = here[order], key[order]
    first = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    last = np.r_[first[1:], len(key)] - 1
    return Level(key[first] & ((1 << TOKEN_BITS) - 1), key[first] >> TOKEN_BITS, ranks[first], ranks[last] + 1)


def _even_cuts(stop: np.ndarray, parts: int) -> list[int]:
    """Where to cut the first level, whose ranks end at `stop`, into about equal numbers of names."""
    wanted = np.arange(1, parts) * int(stop[-1]) / parts
    return sorted({0, *np.searchsorted(stop, wanted).tolist(), len(stop)})


def _side_by_side(above: Sequence[int], parts: Sequence[Sequence[Level]]) -> list[Level]:
    """The levels of all parts as if they had been made at once; `above` are the parts' numbers of nodes in the level above."""
    levels: list[Level] = []
    for depth in range(max(map(len, parts))):
        before = bounds_of(above)
        found = [(offset, part[depth]) for offset, part in zip(before, parts, strict=False) if depth < len(part)]
        levels.append(
            Level(
                np.concatenate([level.token for _, level in found]),
                np.concatenate([offset + level.parent for offset, level in found]),
                np.concatenate([level.start for _, level in found]),
                np.concatenate([level.stop for _, level in found]),
            )
        )
        above = [len(part[depth].token) if depth < len(part) else 0 for part in parts]
    return levels
