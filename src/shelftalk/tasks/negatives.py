"""Items that a user has not taken, as far as training may know.

Drawn over everything outside the user's *training* items: leaving a held-out item out of the negatives would
itself be a hint, so what is held out is not consulted. Legend: S slots (one negative each), I items.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np

from shelftalk.data.similarity import nearest_by_text
from shelftalk.data.splitting import Split
from shelftalk.ragged import Ragged, offsets_of

Kind = Literal["uniform", "popular", "category", "neighbour"]
"""Where a negative comes from: any item; any item in proportion to its training events; an item of the
positive's category (items without one share theirs); one of the items most alike to the positive by text."""
NEIGHBOURS = 50
"""How many of the items most alike to a positive may stand in for it."""
ROUNDS = 16
"""Draws of a slot before what is free is listed. From the half of them on, any item will do."""


class Negatives:
    """Draws negatives for user numbers of one split."""

    def __init__(self, split: Split, kinds: tuple[Kind, ...] = ("uniform",)) -> None:
        self._split = split
        self._kinds = kinds
        self._items = len(split.dataset.items)
        taken = split.training_users * self._items + split.training_items
        self._taken = np.append(
            np.sort(taken), np.iinfo(np.int64).max
        )  # keys user * I + item, and one beyond them all
        self._free = self._items - np.bincount(split.training_users, minlength=len(split.dataset.user_ids))

    def most(self, user: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """`wanted`, or as many as the catalogue holds outside the user's training items."""
        return np.minimum(wanted, self._free[user])

    def draw(
        self, user: np.ndarray, numbers: np.ndarray, like: np.ndarray, draw: np.random.Generator
    ) -> Ragged:
        """For each of N samples `numbers[n]` distinct catalogue rows (see `most`) that user number `user[n]`
        has not taken.

        `like` [S] is the positive of each slot, for kinds of negatives that resemble it. Each slot draws its
        kind by chance; where a kind offers nothing free after some draws, any item stands in, so that the
        number is always what was asked for.
        """
        bounds = offsets_of(numbers)
        owner = np.repeat(np.arange(len(numbers)), numbers)
        kind = draw.integers(len(self._kinds), size=len(owner))
        found = np.full(len(owner), -1, np.int64)
        for turn in range(ROUNDS):
            slots = np.flatnonzero(found < 0)
            if not len(slots):
                return Ragged(found, bounds)
            items = self._proposed(kind[slots], like[slots], draw, turn < ROUNDS // 2)
            found[slots] = np.where(self._is_taken(user[owner[slots]], items), -1, items)
            self._drop_repeats(owner, found)
        self._fill_up(user, owner, found, draw)
        return Ragged(found, bounds)

    def _proposed(
        self, kind: np.ndarray, like: np.ndarray, draw: np.random.Generator, as_asked: bool
    ) -> np.ndarray:
        """[S] catalogue rows, each drawn in the manner of its slot's kind."""
        items = draw.integers(self._items, size=len(kind))
        for number, name in enumerate(self._kinds if as_asked else ()):
            of_kind = kind == number
            if name != "uniform" and of_kind.any():
                items[of_kind] = getattr(self, f"_{name}")(like[of_kind], items[of_kind], draw)
        return items

    def _popular(self, like: np.ndarray, otherwise: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        return self._split.training_items[draw.integers(len(self._split.training_items), size=len(like))]

    def _category(self, like: np.ndarray, otherwise: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        members, category = self._categories
        first, size = members.offsets[category[like]], members.lengths[category[like]]
        return members.values[first + draw.integers(size)]

    def _neighbour(self, like: np.ndarray, otherwise: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        items = self._neighbours[like, draw.integers(self._neighbours.shape[1], size=len(like))]
        return np.where(items >= 0, items, otherwise)

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
        return self._taken[np.searchsorted(self._taken, keys)] == keys

    def _drop_repeats(self, owner: np.ndarray, found: np.ndarray) -> None:
        """Of slots of one sample that hold the same item, all but the first are open again."""
        keys = owner * (self._items + 1) + found
        ordered = np.sort(keys)
        repeats = ordered[1:][ordered[1:] == ordered[:-1]]  # few: they alone are looked up
        slots = np.flatnonzero(np.isin(keys, repeats))
        _, first = np.unique(keys[slots], return_index=True)
        found[np.delete(slots, first)] = -1

    def _fill_up(
        self, user: np.ndarray, owner: np.ndarray, found: np.ndarray, draw: np.random.Generator
    ) -> None:
        """The last open slots, from a list of what is free: where the user has taken nearly everything."""
        whose, free = -1, np.zeros(0, np.int64)
        for sample in np.unique(owner[found < 0]).tolist():
            if (
                user[sample] != whose
            ):  # once for a user of thousands of samples: the list is as long as the catalogue
                whose, free = int(user[sample]), self._untaken(int(user[sample]))
            first, last = np.searchsorted(owner, [sample, sample + 1])
            slots = first + np.flatnonzero(found[first:last] < 0)
            found[slots] = draw.choice(np.setdiff1d(free, found[first:last]), len(slots), replace=False)

    def _untaken(self, user: int) -> np.ndarray:
        """Catalogue rows outside the user's training items, ascending."""
        first, last = np.searchsorted(self._taken, [user * self._items, (user + 1) * self._items])
        return np.setdiff1d(np.arange(self._items), self._taken[first:last] - user * self._items)
