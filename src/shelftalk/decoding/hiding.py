"""Which items a request may be given: masks and exclusions, answered for any node of a trie by counting, without a table of nodes.

The items below a node are one range of ranks (two, where items were added), so a node is open while fewer items are hidden in that
range than stand in it. Masks are counted once for all requests that share them, single items are searched for: the cost of a step
does not grow with the catalogue.

Legend: R requests, G distinct masks, N nodes asked about, I items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shelftalk.decoding.item_trie import Trie
from shelftalk.errors import BadValue
from shelftalk.tasks.ragged import Ragged, ragged


class Hidden:
    """What each of R requests may not be given.

    `excluded` [R]: item numbers of each request (seen, unwanted), repeats allowed. `masks` [G, I] bool: the items of which a request of
    mask g may be given some; `mask_of` [R] int: the mask of each request, -1 for none. Without masks every item is allowed.
    Raises BadValue for a number that is no item's, and for masks of another shape or that no request has.
    """

    def __init__(
        self,
        trie: Trie,
        excluded: Ragged | Sequence[Sequence[int]],
        masks: np.ndarray | None = None,
        mask_of: np.ndarray | None = None,
    ) -> None:
        self.requests = len(excluded)
        self._trie = trie
        self._removed = np.sort(trie.ranks_of(trie.removed))
        _check_masks(trie, self.requests, masks, mask_of)
        self._mask_of = np.full(self.requests, -1) if mask_of is None else np.asarray(mask_of)
        self._before = _counted(trie, masks)  # [G, I + 1] items of lower rank that are masked or removed
        rows = excluded if isinstance(excluded, Ragged) else ragged(excluded)
        _check_numbers(trie, rows.values)
        self._keys = self._single(rows.owner, trie.ranks_of(rows.values))

    def open(self, request: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """[N] bool: whether `request` [N] may be given an item below `nodes` [N]."""
        left = np.zeros(len(nodes), np.int64)
        for first, last in self._trie.ranges(nodes):
            left += last - first - self._hidden_between(request, first, last)
        return left > 0

    def left(self) -> np.ndarray:
        """[R] how many items each request may be given."""
        whole = np.zeros(self.requests, np.int64), np.full(self.requests, self._trie.items)
        return whole[1] - self._hidden_between(np.arange(self.requests), *whole)

    def of(self, request: np.ndarray, items: np.ndarray) -> np.ndarray:
        """[N] bool: whether item `items` [N] is hidden from `request` [N]."""
        ranks = self._trie.ranks_of(items)
        return self._hidden_between(request, ranks, ranks + 1) > 0

    def select(self, requests: np.ndarray) -> Hidden:
        """The same for the requests `requests` [R'] alone."""
        chosen = object.__new__(Hidden)
        chosen.requests, chosen._trie = len(requests), self._trie
        chosen._removed, chosen._before = self._removed, self._before
        chosen._mask_of = self._mask_of[requests]
        width = self._trie.items + 1
        start, stop = (np.searchsorted(self._keys, (requests + more) * width) for more in (0, 1))
        owner = np.repeat(np.arange(len(requests)), stop - start)
        places = np.arange(len(owner)) + np.repeat(start - np.cumsum(stop - start) + (stop - start), stop - start)
        chosen._keys = self._keys[places] % width + owner * width
        return chosen

    def _single(self, request: np.ndarray, ranks: np.ndarray) -> np.ndarray:
        """Sorted keys request * (I + 1) + rank of the single exclusions that nothing else hides already."""
        alone = self._shared_between(request, ranks, ranks + 1) == 0
        return np.unique(request[alone] * (self._trie.items + 1) + ranks[alone])

    def _hidden_between(self, request: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """[N] items hidden from each request among the ranks first : last."""
        base = request * (self._trie.items + 1)
        single = np.searchsorted(self._keys, base + last) - np.searchsorted(self._keys, base + first)
        return single + self._shared_between(request, first, last)

    def _shared_between(self, request: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """[N] items among the ranks first : last that are removed or hidden by the request's mask."""
        removed = np.searchsorted(self._removed, last) - np.searchsorted(self._removed, first)
        if not len(self._before):
            return removed
        mask = self._mask_of[request]
        return np.where(mask >= 0, self._before[mask, last] - self._before[mask, first], removed)


def _check_numbers(trie: Trie, items: np.ndarray) -> None:
    """Raises BadValue for a number that is no item's: -1 would hide the last one."""
    if (wrong := (items < 0) | (items >= trie.items)).any():
        raise BadValue(f"{items[wrong][0]} is no item of the trie, whose items are 0 to {trie.items - 1}; leave it out.")


def _check_masks(trie: Trie, requests: int, masks: np.ndarray | None, mask_of: np.ndarray | None) -> None:
    """Raises BadValue for masks of another shape, masks that no request is told to have, or requests of masks that are not there."""
    if masks is None and mask_of is None:
        return
    together = masks is not None and mask_of is not None and masks.shape[1:] == (trie.items,) and mask_of.shape == (requests,)
    if not together or int(np.max(mask_of, initial=-1)) >= len(masks):  # type: ignore[arg-type]
        raise BadValue(
            f"masks are [G, {trie.items}] bool and `mask_of` [{requests}] of their numbers, or -1; give both in this shape, or none."
        )


def _counted(trie: Trie, masks: np.ndarray | None) -> np.ndarray:
    """[G, I + 1] int32: the items of lower rank that each mask hides, or that are removed."""
    if masks is None:
        return np.zeros((0, trie.items + 1), np.int32)
    hidden = np.zeros(masks.shape, bool)
    hidden[:, trie.ranks_of(np.arange(trie.items))] = ~np.asarray(masks, bool)
    hidden[:, trie.ranks_of(trie.removed)] = True
    before = np.zeros((len(masks), trie.items + 1), np.int32)
    np.cumsum(hidden, axis=1, out=before[:, 1:])
    return before
