"""The catalogue as callers see it: the trained items and what the store says of them since. Read and changed
from any thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import polars as pl

from shelftalk.records import Item
from shelftalk.serving.store import StoredItem

FIELDS = ("item_id", "title", "brand", "categories")
"""What a search looks into."""


class Catalogue:
    """`items` is the frame of a trained catalogue; `change` lays what was stored over it."""

    def __init__(self, items: pl.DataFrame) -> None:
        self._lock = threading.Lock()
        self._stored: dict[str, StoredItem] = {}
        self.trained(items)

    def trained(self, items: pl.DataFrame) -> None:
        """Another trained catalogue, with the same changes."""
        row_of = {item: row for row, item in enumerate(items["item_id"].to_list())}
        folded = items.select(pl.concat_str(FIELDS, separator=" ").str.to_lowercase())
        with self._lock:
            self._items, self._row_of, self._folded = items, row_of, folded.to_series()

    def change(self, items: Iterable[StoredItem]) -> None:
        """Lay changes over the trained catalogue, in their order."""
        with self._lock:
            self._stored.update({stored.item.id: stored for stored in items})

    def get(self, item_id: str) -> StoredItem | None:
        """The item, hidden and expired ones too; None where it is not in the catalogue."""
        with self._lock:
            return self._get(item_id)

    def titles(self, item_ids: Sequence[str]) -> list[str]:
        """The title of each, "" where there is none."""
        with self._lock:
            known = [self._get(item_id) for item_id in item_ids]
        return [stored.item.title if stored else "" for stored in known]

    def missing(self, item_ids: Sequence[str]) -> list[str]:
        """Those that are not in the catalogue."""
        with self._lock:
            return [item_id for item_id in item_ids if self._get(item_id) is None]

    def stored(self) -> list[StoredItem]:
        """Everything that was laid over it, removed items too, in the order of the changes."""
        with self._lock:
            return sorted(self._stored.values(), key=lambda stored: stored.change)

    def search(self, text: str, limit: int, offset: int = 0) -> tuple[list[StoredItem], int]:
        """Items that hold every word of the text, whatever the case, and how many there are: those that were
        changed last first, then in catalogue order. Without a word, all."""
        words = text.lower().split()
        with self._lock:
            changed = [
                stored
                for stored in sorted(self._stored.values(), key=lambda stored: -stored.change)
                if not stored.removed and _holds(stored.item, words)
            ]
            mask = pl.repeat(True, len(self._items), eager=True)
            for word in words:
                mask &= self._folded.str.contains(word, literal=True)
            rows = [row for row in mask.arg_true().to_list() if self._id(row) not in self._stored]
            trained = rows[max(0, offset - len(changed)) : max(0, offset + limit - len(changed))]
            shown = changed[offset : offset + limit] + [self._trained(row) for row in trained]
            return shown, len(changed) + len(rows)

    def counts(self, now: float) -> dict[str, int]:
        """Items by what they are: trained, added, hidden, expired, removed."""
        with self._lock:
            stored = list(self._stored.values())
            there = [one for one in stored if not one.removed]
            return {
                "trained": len(self._row_of),
                "added": sum(one.item.id not in self._row_of for one in there),
                "hidden": sum(one.hidden for one in there),
                "expired": sum(one.expires_at is not None and one.expires_at <= now for one in there),
                "removed": len(stored) - len(there),
            }

    def _get(self, item_id: str) -> StoredItem | None:
        stored = self._stored.get(item_id)
        if stored is not None:
            return None if stored.removed else stored
        row = self._row_of.get(item_id)
        return None if row is None else self._trained(row)

    def _id(self, row: int) -> str:
        item_id: str = self._items["item_id"][row]
        return item_id

    def _trained(self, row: int) -> StoredItem:
        return StoredItem(Item(*self._items.row(row)))


def _holds(item: Item, words: Sequence[str]) -> bool:
    text = f"{item.id} {item.title} {item.brand} {item.categories}".lower()
    return all(word in text for word in words)
