"""Items that a user has not taken, as far as training may know.

Drawn from everything outside the user's *training* items: excluding a held-out item from the negatives would
itself be a hint, so what is held out is not read. Legend: S slots (one negative each), I items.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np

from shelftalk.data.similarity import nearest_by_text
from shelftalk.data.splitting import Split
from shelftalk.ragged import Ragged, offsets_of

Kind = Literal["uniform", "popular", "category", "neighbour"]
"""Where a negative comes from: any item, uniformly or in proportion to its training events; an item of the
positive's category (items without one form one); one of the items most similar to the positive by text."""
NEIGHBOURS = 50
"""How many of the items most similar to a positive may be its negatives."""
ROUNDS = 16
"""Most draws of a slot before the free items are listed. The second half of them is uniform."""


class Negatives:
    """Draws negatives for user numbers of one split."""

    def __init__(self, split: Split, kinds: tuple[Kind, ...] = ("uniform",)) -> None:
        self._split = split
        self._kinds = kinds
        self._items = len(split.dataset.items)
        taken = split.training_users * self._items + split.training_items
        # sorted keys user * I + item, and one above them all, so that a search always ends at a key
        self._taken = np.append(np.sort(taken), np.iinfo(np.int64).max)
        self._free = self._items - np.bincount(split.training_users, minlength=len(split.dataset.user_ids))

    def available(self, user: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """The smaller of `wanted` and how many items the catalogue has outside the user's training items."""
        result: np.ndarray = np.minimum(wanted, self._free[user])
        return result

    def draw(
        self, user: np.ndarray, numbers: np.ndarray, positive: np.ndarray, rng: np.random.Generator
    ) -> Ragged:
        """For each of N samples `numbers[n]` distinct catalogue rows (see `available`) that user number
        `user[n]` has not taken.

        `positive` [S] is the positive of each slot, for kinds of negatives that depend on it. The kind of a
        slot is random; where a kind has no free item after some draws, any item is drawn, so that each sample
        always gets its number.
        """
        bounds = offsets_of(numbers)
        owner = np.repeat(np.arange(len(numbers)), numbers)
        kind = rng.integers(len(self._kinds), size=len(owner))
        negatives = np.full(len(owner), -1, np.int64)
        for turn in range(ROUNDS):
            slots = np.flatnonzero(negatives < 0)
            if not len(slots):
                return Ragged(negatives, bounds)
            items = self._proposed(kind[slots], positive[slots], rng, turn < ROUNDS // 2)
            negatives[slots] = np.where(self._is_taken(user[owner[slots]], items), -1, items)
            self._drop_repeats(owner, negatives)
        self._fill_up(user, owner, negatives, rng)
        return Ragged(negatives, bounds)

    def _proposed(
        self, kind: np.ndarray, positive: np.ndarray, rng: np.random.Generator, by_kind: bool
    ) -> np.ndarray:
        """[S] catalogue rows, each drawn by the kind of its slot; uniformly unless `by_kind`."""
        items = rng.integers(self._items, size=len(kind))
        for number, name in enumerate(self._kinds if by_kind else ()):
            of_kind = kind == number
            if name != "uniform" and of_kind.any():
                items[of_kind] = getattr(self, f"_{name}")(positive[of_kind], items[of_kind], rng)
        return items

    def _popular(self, positive: np.ndarray, uniform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self._split.training_items[rng.integers(len(self._split.training_items), size=len(positive))]

    def _category(self, positive: np.ndarray, uniform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        members, category = self._categories
        first, size = members.offsets[category[positive]], members.lengths[category[positive]]
        result: np.ndarray = members.values[first + rng.integers(size)]
        return result

    def _neighbour(self, positive: np.ndarray, uniform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        items = self._neighbours[positive, rng.integers(self._neighbours.shape[1], size=len(positive))]
        return np.where(items >= 0, items, uniform)

    @cached_property
    def _categories(self) -> tuple[Ragged, np.ndarray]:
        """Catalogue rows by category, and [I] the category of each."""
        _, category = np.unique(
            self._split.dataset.items["categories"].to_numpy().astype(str), return_inverse=True
        )
        return Ragged(np.argsort(category, kind="stable"), offsets_of(np.bincount(category))), category

    @cached_property
    def _neighbours(self) -> np.ndarray:
        return nearest_by_text(self._split.dataset.items, min(NEIGHBOURS, max(1, self._items - 1)))

    def _is_taken(self, user: np.ndarray, items: np.ndarray) -> np.ndarray:
        keys = user * self._items + items
        result: np.ndarray = self._taken[np.searchsorted(self._taken, keys)] == keys
        return result

    def _drop_repeats(self, owner: np.ndarray, negatives: np.ndarray) -> None:
        """Of slots of one sample that hold the same item, all but the first are set back to -1."""
        keys = owner * (self._items + 1) + negatives
        ordered = np.sort(keys)
        repeats = ordered[1:][ordered[1:] == ordered[:-1]]  # few, so only these are looked up
        slots = np.flatnonzero(np.isin(keys, repeats))
        _, first = np.unique(keys[slots], return_index=True)
        negatives[np.delete(slots, first)] = -1

    def _fill_up(
        self, user: np.ndarray, owner: np.ndarray, negatives: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Fill the slots that are still -1 from a list of free items: their users took nearly everything."""
        listed, free = -1, np.zeros(0, np.int64)
        for sample in np.unique(owner[negatives < 0]).tolist():
            # the list is as long as the catalogue, so it is made once for all samples of a user
            if user[sample] != listed:
                listed, free = int(user[sample]), self._untaken(int(user[sample]))
            first, last = np.searchsorted(owner, [sample, sample + 1])
            slots = first + np.flatnonzero(negatives[first:last] < 0)
            negatives[slots] = rng.choice(
                np.setdiff1d(free, negatives[first:last]), len(slots), replace=False
            )

    def _untaken(self, user: int) -> np.ndarray:
        """Catalogue rows outside the user's training items, ascending."""
        first, last = np.searchsorted(self._taken, [user * self._items, (user + 1) * self._items])
        return np.setdiff1d(np.arange(self._items), self._taken[first:last] - user * self._items)
