"""Which items a request may be given: masks and single exclusions, answered for any node of a trie by
counting, without a table of nodes.

The items below a node are one range of ranks (two, where items were added), so a node is allowed while fewer
items of that range are excluded than stand in it. Masks are counted once for all requests that share them,
single items are searched for: the cost of a step does not grow with the catalogue.

Example: items 0, 1, 2 of the ranks 0, 1, 2; "a" is a node above items 0 and 1. A request excludes item 1 and
has the mask [False, True, True], which leaves out item 0:

    masked, cumulative    [0, 1, 1, 1]    ranks 0 : 2 -> 1 - 0 = 1 masked
    single, sorted keys   [1]             ranks 0 : 2 -> 1 - 0 = 1 more
    below "a"             2 items, 2 excluded: not allowed; below the root 3 items, 2 excluded: allowed

Legend: R requests, G distinct masks, N queried nodes or items, I items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shelftalk.decoding.item_trie import Trie
from shelftalk.errors import BadValue
from shelftalk.ragged import Ragged, concatenated_ranges, ragged


class Exclusions:
    """What each of R requests may not be given.

    `excluded` [R]: item numbers of each request (seen, unwanted), repeats allowed. `masks` [G, I] bool: the
    items of which a request of mask g may be given some; `mask_index` [R] int: the mask of each request, -1
    for none. Without masks every item is allowed. What the trie itself has removed is excluded for all.
    Raises BadValue for a number that is no item's, and for masks of another shape or that no request has.
    """

    def __init__(
        self,
        trie: Trie,
        excluded: Ragged | Sequence[Sequence[int]],
        masks: np.ndarray | None = None,
        mask_index: np.ndarray | None = None,
    ) -> None:
        self.requests = len(excluded)
        self._trie = trie
        self._removed = np.sort(trie.ranks_of(trie.removed))
        _check_masks(trie, self.requests, masks, mask_index)
        self._mask_index = np.full(self.requests, -1) if mask_index is None else np.asarray(mask_index)
        # [G, I + 1] items of lower rank that are masked or removed
        self._masked_before = _cumulative(trie, masks)
        rows = excluded if isinstance(excluded, Ragged) else ragged(excluded)
        _check_numbers(trie, rows.values)
        self._keys = self._single_keys(rows.row_ids, trie.ranks_of(rows.values))

    def allows_below(self, request: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """[N] bool: whether `request` [N] may be given an item below `nodes` [N]."""
        allowed = np.zeros(len(nodes), np.int64)
        for first, last in self._trie.ranges(nodes):
            allowed += last - first - self._count(request, first, last)
        return allowed > 0

    def num_allowed(self) -> np.ndarray:
        """[R] how many items each request may be given."""
        first, last = np.zeros(self.requests, np.int64), np.full(self.requests, self._trie.items)
        result: np.ndarray = last - self._count(np.arange(self.requests), first, last)
        return result

    def excludes(self, request: np.ndarray, items: np.ndarray) -> np.ndarray:
        """[N] bool: whether item `items` [N] is excluded for `request` [N]."""
        ranks = self._trie.ranks_of(items)
        return self._count(request, ranks, ranks + 1) > 0

    def select(self, requests: np.ndarray) -> Exclusions:
        """The same for the requests `requests` [R'] alone."""
        selected = object.__new__(Exclusions)
        selected.requests, selected._trie = len(requests), self._trie
        selected._removed, selected._masked_before = self._removed, self._masked_before
        selected._mask_index = self._mask_index[requests]
        width = self._trie.items + 1
        start, stop = (np.searchsorted(self._keys, (requests + more) * width) for more in (0, 1))
        request = np.repeat(np.arange(len(requests)), stop - start)
        selected._keys = self._keys[concatenated_ranges(start, stop - start)] % width + request * width
        return selected

    def _single_keys(self, request: np.ndarray, ranks: np.ndarray) -> np.ndarray:
        """Sorted keys request * (I + 1) + rank of the single exclusions that neither mask nor removal
        excludes already."""
        single = self._count_shared(request, ranks, ranks + 1) == 0
        return np.unique(request[single] * (self._trie.items + 1) + ranks[single])

    def _count(self, request: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """[N] items excluded for each request among the ranks first : last."""
        base = request * (self._trie.items + 1)
        single = np.searchsorted(self._keys, base + last) - np.searchsorted(self._keys, base + first)
        result: np.ndarray = single + self._count_shared(request, first, last)
        return result

    def _count_shared(self, request: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """[N] items among the ranks first : last that are removed or left out by the request's mask."""
        removed = np.searchsorted(self._removed, last) - np.searchsorted(self._removed, first)
        if not len(self._masked_before):
            return removed
        mask = self._mask_index[request]
        return np.where(
            mask >= 0, self._masked_before[mask, last] - self._masked_before[mask, first], removed
        )


def _check_numbers(trie: Trie, items: np.ndarray) -> None:
    """Raises BadValue for a number that is no item's: -1 would exclude the last one."""
    if (wrong := (items < 0) | (items >= trie.items)).any():
        raise BadValue(
            f"{items[wrong][0]} is no item of the trie, whose items are 0 to {trie.items - 1}; leave it out."
        )


def _check_masks(trie: Trie, requests: int, masks: np.ndarray | None, mask_index: np.ndarray | None) -> None:
    """Raises BadValue for masks of another shape, masks of which no request has one, or requests of masks
    that are not there."""
    if masks is None and mask_index is None:
        return
    together = (
        masks is not None
        and mask_index is not None
        and masks.shape[1:] == (trie.items,)
        and mask_index.shape == (requests,)
    )
    if not together or int(np.max(mask_index, initial=-1)) >= len(masks):  # type: ignore[arg-type]
        raise BadValue(
            f"masks are [G, {trie.items}] bool and `mask_index` [{requests}] of their numbers, or -1; give "
            "both in this shape, or none."
        )


def _cumulative(trie: Trie, masks: np.ndarray | None) -> np.ndarray:
    """[G, I + 1] int32: the items of lower rank that each mask leaves out, or that are removed."""
    if masks is None:
        return np.zeros((0, trie.items + 1), np.int32)
    excluded = np.zeros(masks.shape, bool)
    excluded[:, trie.ranks_of(np.arange(trie.items))] = ~np.asarray(masks, bool)
    excluded[:, trie.ranks_of(trie.removed)] = True
    before = np.zeros((len(masks), trie.items + 1), np.int32)
    np.cumsum(excluded, axis=1, out=before[:, 1:])
    return before
