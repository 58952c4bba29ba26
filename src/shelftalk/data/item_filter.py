"""From a request's filter to the items that pass it: one mask per filter, computed once and kept.

Legend: I items, T distinct texts of a column.
"""

from __future__ import annotations

import difflib
import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import polars as pl

from shelftalk.errors import UnknownItem, UnknownLabel
from shelftalk.records import Filter

SEPARATORS = re.compile("[;>|]")
"""What stands between the labels of a text of categories. No comma: "Gun Holsters, Cases & Bags" is one
label."""
KEPT = 2**26
"""Bytes of masks that are kept for one catalogue; those asked longest ago go first."""
LISTS_KEPT = 16
"""Masks of filters with a list of items that are kept: the list is kept with its mask, and may be many times
as large."""


def allowed(items: pl.DataFrame, wanted: Filter) -> np.ndarray:
    """[I] bool, read-only, in catalogue order: which items pass all conditions of the filter.

    `items` is the catalogue frame of a Dataset. What is derived from it is kept as long as the frame itself
    is. Raises UnknownLabel for a category or brand that no item has and for a price where no item has one,
    UnknownItem for an id of `only` that is not in the catalogue.
    """
    return _conditions_of(items).mask(wanted)


@dataclass(frozen=True, eq=False)
class _Labels:
    """`text` [I]: which of the T distinct texts of its column an item has. `bearers`: folded label -> the
    texts that bear it."""

    kind: str
    text: np.ndarray
    bearers: dict[str, list[int]]
    spelling: dict[str, str]

    def mask(self, labels: Sequence[str]) -> np.ndarray:
        """[I] bool: the items with any of the labels."""
        chosen = np.zeros(self.text.max(initial=-1) + 1, bool)  # [T]
        for label in labels:
            if _folded(label) not in self.bearers:
                raise UnknownLabel(
                    f'no item of the catalogue has the {self.kind} "{label}"; {self._hint(label)}'
                )
            chosen[self.bearers[_folded(label)]] = True
        return chosen[self.text]

    def _hint(self, label: str) -> str:
        """The nearest label, or where none is near a few of those that most texts bear."""
        if not self.bearers:
            return f"no item has any {self.kind}, so leave it out of the filter."
        if close := difflib.get_close_matches(_folded(label), self.bearers, n=1, cutoff=0.5):
            return f'did you mean "{self.spelling[close[0]]}"?'
        common = sorted(self.bearers, key=lambda known: (-len(self.bearers[known]), known))[:5]
        return (
            f"it has {len(self.bearers)}, such as "
            + ", ".join(f'"{self.spelling[known]}"' for known in common)
            + "."
        )


class _Conditions:
    """What the filters of a catalogue look up, each made when it is first asked for."""

    def __init__(self, items: pl.DataFrame) -> None:
        self.items = items
        self._unlisted = lru_cache(max(1, KEPT // max(1, len(items))))(self._mask)
        self._listed = lru_cache(LISTS_KEPT)(self._mask)

    def mask(self, wanted: Filter) -> np.ndarray:
        """[I] bool, read-only."""
        return self._unlisted(wanted) if wanted.only is None else self._listed(wanted)

    @cached_property
    def row_of(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.items["item_id"].to_list())}

    @cached_property
    def price(self) -> np.ndarray:
        """[I] float64, NaN where there is none: no comparison with it holds. Raises UnknownLabel where no
        item has one."""
        if self.items["price"].null_count() == len(self.items):
            raise UnknownLabel(
                "no item of the catalogue has a price; leave min_price and max_price out of the filter."
            )
        return self.items["price"].fill_null(float("nan")).to_numpy()

    @cached_property
    def categories(self) -> _Labels:
        return _labels(self.items["categories"], "category", divided=True)

    @cached_property
    def brands(self) -> _Labels:
        return _labels(self.items["brand"], "brand", divided=False)

    def _mask(self, wanted: Filter) -> np.ndarray:
        passes = np.ones(len(self.items), bool)
        if wanted.categories:
            passes &= self.categories.mask(wanted.categories)
        if wanted.brands:
            passes &= self.brands.mask(wanted.brands)
        if wanted.min_price is not None:
            passes &= self.price >= wanted.min_price
        if wanted.max_price is not None:
            passes &= self.price <= wanted.max_price
        if wanted.only is not None:
            passes &= self._among(wanted.only)
        passes.flags.writeable = False  # it is handed out again
        return passes

    def _among(self, item_ids: Sequence[str]) -> np.ndarray:
        unknown = next((item for item in item_ids if item not in self.row_of), None)
        if unknown is not None:
            raise UnknownItem(
                f'item "{unknown}" of a filter is not in the catalogue; leave it out of `only`.'
            )
        passes = np.zeros(len(self.items), bool)
        passes[[self.row_of[item] for item in item_ids]] = True
        return passes


_CONDITIONS: dict[
    int, _Conditions
] = {}  # by id, since a frame is not hashable; an entry leaves together with its frame


def _conditions_of(items: pl.DataFrame) -> _Conditions:
    found = _CONDITIONS.get(id(items))
    if found is None:
        found = _CONDITIONS[id(items)] = _Conditions(
            items.clone()
        )  # a clone shares the data, and lets the frame itself go
        weakref.finalize(items, _CONDITIONS.pop, id(items))
    return found


def _labels(column: pl.Series, kind: str, divided: bool) -> _Labels:
    """The labels of every distinct text: the whole of it and, where it is `divided`, its parts."""
    distinct = column.unique().sort().to_list()
    bearers: dict[str, list[int]] = {}
    spelling: dict[str, str] = {}
    for number, text in enumerate(distinct):
        found = {
            _folded(part): part.strip() for part in ([*SEPARATORS.split(text), text] if divided else [text])
        }
        for label in found.keys() - {""}:
            bearers.setdefault(label, []).append(number)
            spelling.setdefault(label, found[label])
    return _Labels(kind, column.rank("dense").to_numpy().astype(np.int32) - 1, bearers, spelling)


def _folded(label: str) -> str:
    """Case and space do not count."""
    return " ".join(label.split()).casefold()
