"""A catalogue whose items join, change, are hidden, expire and leave, as rows that are numbered once.

It belongs to one thread. An item that gets another name, or is removed and comes back, gets a new row; its
old one is retired and never recommended again.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from shelftalk.data.dataset import EVENT_COLUMNS, ITEM_COLUMNS, Dataset
from shelftalk.data.similarity import item_texts
from shelftalk.records import Item
from shelftalk.serving.store import StoredItem

RETIRED = "\x00retired "
"""Begins the id of a row that no item has any more; no item id holds a NUL character."""


def frame_of(items: Sequence[Item]) -> pl.DataFrame:
    """Items as a catalogue frame."""
    rows = [
        (item.id, item.title, item.brand, item.categories, item.price, item.description) for item in items
    ]
    return pl.DataFrame(rows, schema=dict(ITEM_COLUMNS), orient="row")


def text_of(item: Item) -> str:
    """What is compared with the texts of other items."""
    (text,) = item_texts(frame_of([item]))
    return text


class LiveDataset(Dataset):
    """A catalogue without events whose rows are changed and added in memory; `commit` ends some changes."""

    records: dict[int, Item]
    """Row -> the item there, of rows that changed or were added."""

    def __init__(self, items: pl.DataFrame) -> None:
        super().__init__(items, pl.DataFrame(schema=EVENT_COLUMNS))
        ids = items["item_id"].to_list()
        row_of = {item: row for row, item in enumerate(ids)}
        # in place of what would be computed once from the frame
        vars(self).update(item_ids=ids, row_of=row_of, records={}, dirty=set())

    def item(self, item_id: str) -> Item:
        """As Dataset.item."""
        return self.records.get(self.row_of[item_id]) or super().item(item_id)

    def put(self, row: int, item: Item) -> None:
        """Change the item of a row, or add the next row."""
        if row == len(self.item_ids):
            self.item_ids.append(item.id)
        self.row_of[item.id] = row
        self.records[row] = item
        vars(self)["dirty"].add(row)

    def retire(self, item_id: str) -> int:
        """Take the item away; its row remains, under an id that no item has."""
        row = self.row_of.pop(item_id)
        self.item_ids[row] = f"{RETIRED}{row}"
        self.records[row] = Item(self.item_ids[row])
        vars(self)["dirty"].add(row)
        return row

    def commit(self) -> None:
        """Bring the frame, which filters read, to what the rows are."""
        dirty: set[int] = vars(self)["dirty"]
        old = sorted(row for row in dirty if row < len(self.items))
        new = sorted(dirty - set(old))
        frame = self.items
        if old:
            values = frame_of([self.records[row] for row in old])
            numbered = values.with_columns(row=pl.Series(old, dtype=pl.get_index_type()))
            frame = frame.with_row_index("row").update(numbered, on="row", include_nulls=True).drop("row")
        if new:
            frame = pl.concat([frame, frame_of([self.records[row] for row in new])])
        object.__setattr__(self, "items", frame)
        dirty.clear()


class LiveCatalogue:
    """The rows of a trained catalogue and of what joined since, and which of them may be recommended."""

    def __init__(self, items: pl.DataFrame) -> None:
        self.dataset = LiveDataset(items)
        self.trained_items = len(items)
        self.retired: set[int] = set()
        self._invisible: set[str] = set()
        self._stored: dict[str, StoredItem] = {}
        self._expiry: list[tuple[float, str]] = []

    @property
    def item_ids(self) -> Iterable[str]:
        """The items that are there, hidden ones too."""
        return self.dataset.row_of.keys()

    @property
    def hidden_rows(self) -> set[int]:
        """The rows that may not be recommended."""
        row_of = self.dataset.row_of
        return self.retired | {row_of[item] for item in self._invisible if item in row_of}

    def is_visible(self, item_id: str) -> bool:
        """Whether the item may be recommended, as of the last refresh."""
        return item_id in self.dataset.row_of and item_id not in self._invisible

    def refresh(self, changes: Sequence[StoredItem], now: float) -> list[str]:
        """Apply changes, and what expires until the Unix time `now`; of several changes of one item the last
        counts. Returns a sentence for each item that cannot join."""
        latest = {stored.item.id: stored for stored in changes}
        joining: list[Item] = []
        for item_id, stored in latest.items():
            self._stored[item_id] = stored
            if stored.removed:
                self._retire(item_id)
            elif self._gets_a_row(stored.item):
                self._retire(item_id)
                joining.append(stored.item)
            if stored.expires_at is not None and not stored.removed:
                heapq.heappush(self._expiry, (stored.expires_at, item_id))
        refused = [sentence for item in joining if (sentence := self._join(item))]
        expired = list(self._expired(now))
        for item_id in {*latest, *expired}:
            self._set_visibility(item_id, now)
        if latest or expired:
            self.dataset.commit()
            self._publish()
        return refused

    def _gets_a_row(self, item: Item) -> bool:
        """Whether the item is new or gets another name. Otherwise its texts are changed here."""
        row = self.dataset.row_of.get(item.id)
        if row is None:
            return True
        if item == self.dataset.item(item.id):
            return False
        if self._is_named_by_text(row):
            return True
        self.dataset.put(row, item)
        self._forget(row, item.id)
        return False

    def _retire(self, item_id: str) -> None:
        if item_id in self.dataset.row_of:
            row = self.dataset.retire(item_id)
            self._forget(row, item_id)
            self.retired.add(row)

    def _expired(self, now: float) -> Iterator[str]:
        while self._expiry and self._expiry[0][0] <= now:
            yield heapq.heappop(self._expiry)[1]

    def _set_visibility(self, item_id: str, now: float) -> None:
        if self._stored[item_id].visible(now):
            self._invisible.discard(item_id)
        else:
            self._invisible.add(item_id)

    # --- what a model has to do beside ---------------------------------------------------------------------

    def _is_named_by_text(self, row: int) -> bool:
        """Whether another text is another name."""
        return False

    def _join(self, item: Item) -> str:
        """Add an item in the next row; a sentence where it cannot be, else ""."""
        self.dataset.put(len(self.dataset.item_ids), item)
        return ""

    def _forget(self, row: int, item_id: str) -> None:
        """The text of a row has changed."""

    def _publish(self) -> None:
        """All changes are done."""
