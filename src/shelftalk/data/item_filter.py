"""From a request's filter to the items that pass it: one mask per filter, computed once and cached.

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
"""What separates the labels in a `categories` text. No comma: "Gun Holsters, Cases & Bags" is one label."""
MASK_BYTES = 2**26
"""Bytes of masks that are cached for one catalogue; the least recently used are dropped first."""
LISTED_MASKS = 16
"""Cached masks of filters with a list of items, each together with its list, which may be much larger."""


def allowed(items: pl.DataFrame, wanted: Filter) -> np.ndarray:
    """[I] bool, read-only, in catalogue order: which items pass all conditions of the filter.

    `items` is the catalogue frame of a Dataset. What is derived from it is cached for the lifetime of the
    frame. Raises UnknownLabel for a category or brand that no item has and for a price where no item has one,
    UnknownItem for an id of `only` that is not in the catalogue.
    """
    return _conditions_of(items).mask(wanted)


@dataclass(frozen=True, eq=False)
class _Labels:
    """`text` [I]: which of the T distinct texts of its column an item has. `texts_with`: folded label -> the
    texts that have it."""

    kind: str
    text: np.ndarray
    texts_with: dict[str, list[int]]
    spelling: dict[str, str]

    def mask(self, labels: Sequence[str]) -> np.ndarray:
        """[I] bool: the items with any of the labels."""
        chosen = np.zeros(self.text.max(initial=-1) + 1, bool)  # [T]
        for label in labels:
            if _folded(label) not in self.texts_with:
                raise UnknownLabel(
                    f'no item of the catalogue has the {self.kind} "{label}"; {self._hint(label)}'
                )
            chosen[self.texts_with[_folded(label)]] = True
        result: np.ndarray = chosen[self.text]
        return result

    def _hint(self, label: str) -> str:
        """The nearest label, or where none is near the most frequent ones."""
        if not self.texts_with:
            return f"no item has any {self.kind}, so leave it out of the filter."
        if close := difflib.get_close_matches(_folded(label), self.texts_with, n=1, cutoff=0.5):
            return f'did you mean "{self.spelling[close[0]]}"?'
        common = sorted(self.texts_with, key=lambda known: (-len(self.texts_with[known]), known))[:5]
        examples = ", ".join(f'"{self.spelling[known]}"' for known in common)
        return f"it has {len(self.texts_with)}, such as {examples}."


class _Conditions:
    """The columns of a catalogue that filters read, each prepared at first use."""

    def __init__(self, items: pl.DataFrame) -> None:
        self.items = items
        self._unlisted = lru_cache(max(1, MASK_BYTES // max(1, len(items))))(self._mask)
        self._listed = lru_cache(LISTED_MASKS)(self._mask)

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
        passes.flags.writeable = False  # it is shared by all requests of this filter
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


# by id(), since a frame is not hashable; an entry is dropped together with its frame
_CONDITIONS: dict[int, _Conditions] = {}


def _conditions_of(items: pl.DataFrame) -> _Conditions:
    conditions = _CONDITIONS.get(id(items))
    if conditions is None:
        # a clone shares the data and does not keep the frame itself alive
        conditions = _CONDITIONS[id(items)] = _Conditions(items.clone())
        weakref.finalize(items, _CONDITIONS.pop, id(items))
    return conditions


def _labels(column: pl.Series, kind: str, divided: bool) -> _Labels:
    """The labels of every distinct text: the whole of it and, where it is `divided`, its parts."""
    distinct = column.unique().sort().to_list()
    texts_with: dict[str, list[int]] = {}
    spelling: dict[str, str] = {}
    for number, text in enumerate(distinct):
        parts = [*SEPARATORS.split(text), text] if divided else [text]
        labels = {_folded(part): part.strip() for part in parts}
        for label in labels.keys() - {""}:
            texts_with.setdefault(label, []).append(number)
            spelling.setdefault(label, labels[label])
    return _Labels(kind, column.rank("dense").to_numpy().astype(np.int32) - 1, texts_with, spelling)


def _folded(label: str) -> str:
    """The label without case and extra white space."""
    return " ".join(label.split()).casefold()
