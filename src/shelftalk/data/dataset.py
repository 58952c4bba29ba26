"""Dataset: a catalogue and who took what, when. Validated once, when it is made, and trusted afterwards.

Legend: I items, U users, E events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from shelftalk import seeds
from shelftalk.data.coding import EventCodes, codes_of, event_codes, sorted_rows
from shelftalk.errors import BadValue, DuplicateItem, NothingLeft, UnknownItem
from shelftalk.records import Item

ITEM_COLUMNS = {
    "item_id": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "categories": pl.String,
    "price": pl.Float64,
    "description": pl.String,
}
EVENT_COLUMNS = {
    "user_id": pl.String,
    "item_id": pl.String,
    "position": pl.Int64,
    "timestamp": pl.Int64,
    "rating": pl.Float64,
    "nanosecond": pl.Int64,
}
TIME = ("timestamp", "nanosecond")
"""The columns of a time: whole Unix seconds, and the nanoseconds after them, 0 to 999,999,999."""
Order = Literal["position", "timestamp"]
WHOLE_FRAME = 4_000_000
"""Events of which the frame is made as a whole; files of more are read and written a row group at a time."""
ROW_GROUP = 131_072
"""Events of a row group in files of more than WHOLE_FRAME."""
FINGERPRINT_ROWS = 100_000
"""Events that are hashed at a time."""


@dataclass(frozen=True, eq=False)
class EventColumns:
    """The events as numbers: a fifth of the memory of the frame, and what it can be made of again.

    `user_ids` [U] in the order of the events; the events of user u are bounds[u] : bounds[u + 1]; `item` [E]
    int32 catalogue rows. `timestamp` [E] Int64 and `rating` [E] Float64, null where missing; `nanosecond` [E]
    Int64, or None where every time is in whole seconds. `ordered`: whether positions count 0, 1, 2 ... within
    a user, or are missing.
    """

    user_ids: pl.Series
    bounds: np.ndarray
    item: np.ndarray
    timestamp: pl.Series
    rating: pl.Series
    nanosecond: pl.Series | None
    ordered: bool

    def __len__(self) -> int:
        return len(self.item)

    def frame(self, item_ids: pl.Series, start: int = 0, stop: int | None = None) -> pl.DataFrame:
        """The events start : stop with EVENT_COLUMNS."""
        stop = len(self) if stop is None else stop
        rows = np.arange(start, stop)
        user = np.searchsorted(self.bounds, rows, side="right") - 1
        time = self.timestamp[start:stop]
        whole = pl.DataFrame(time).select(pl.when(time.is_not_null()).then(pl.lit(0, pl.Int64)))
        return pl.DataFrame(
            {
                "user_id": self.user_ids.gather(pl.Series(user)),
                "item_id": item_ids.gather(pl.Series(self.item[start:stop])),
                "position": pl.Series(rows - self.bounds[user])
                if self.ordered
                else pl.repeat(None, len(rows), dtype=pl.Int64, eager=True),
                "timestamp": time,
                "rating": self.rating[start:stop],
                "nanosecond": whole.to_series() if self.nanosecond is None else self.nanosecond[start:stop],
            },
            schema=EVENT_COLUMNS,
        )

    def filter(self, mask: np.ndarray) -> EventColumns:
        """The events where `mask` [E] is true, and their users alone."""
        before = np.concatenate([[0], np.cumsum(mask)])[self.bounds]  # [U + 1] kept events before each user
        lengths, kept = np.diff(before), pl.Series(mask)
        return EventColumns(
            self.user_ids.filter(pl.Series(lengths > 0)),
            np.concatenate([[0], np.cumsum(lengths[lengths > 0])]).astype(np.int64),
            self.item[mask],
            self.timestamp.filter(kept),
            self.rating.filter(kept),
            None if self.nanosecond is None else self.nanosecond.filter(kept),
            self.ordered,
        )


class Dataset:
    """A catalogue and time-ordered histories.

    `items` has the columns of ITEM_COLUMNS ("" for missing text, null for a missing price), one row per item,
    in catalogue order: that of a seeded hash of the item id, independent of the file. `events` has
    EVENT_COLUMNS (null for a missing time or rating), grouped by user in the order of a seeded hash of the
    user id, oldest first within a user; `position` counts 0, 1, 2 ... within the user, `timestamp` is in
    whole Unix seconds and `nanosecond` the fraction of the second. Where the events have no order, `position`
    is null and a user's events are in the order of a seeded hash. Made by `make_dataset`.

    Held are the events as `columns`; the frame `events` is made of them when it is first used, and takes five
    times as much memory, so that what works on all events of a large data set reads the columns.
    """

    items: pl.DataFrame

    def __init__(self, items: pl.DataFrame, events: pl.DataFrame | EventColumns) -> None:
        """`events` are grouped and ordered, see `make_dataset`."""
        self.items = items
        # in the place where functools keeps what it has computed
        self.__dict__["events" if isinstance(events, pl.DataFrame) else "columns"] = events

    @cached_property
    def events(self) -> pl.DataFrame:
        """[E] all events as a frame."""
        return self.columns.frame(self.items["item_id"])

    @cached_property
    def columns(self) -> EventColumns:
        """[E] all events as numbers."""
        return columns_of(self.events, self.items["item_id"])

    def __len__(self) -> int:
        """The number of events."""
        return len(self.columns)

    @cached_property
    def item_ids(self) -> list[str]:
        """[I] item ids in catalogue order."""
        return self.items["item_id"].to_list()

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Item id -> catalogue row."""
        return {item: row for row, item in enumerate(self.item_ids)}

    @cached_property
    def user_ids(self) -> list[str]:
        """[U] user ids in the order of the events."""
        return self.columns.user_ids.to_list()

    @property
    def event_item(self) -> np.ndarray:
        """[E] int32 catalogue row of each event."""
        return self.columns.item

    @cached_property
    def event_rating(self) -> np.ndarray:
        """[E] float64 rating of each event on the data's own scale; NaN where there is none."""
        rating = self.columns.rating
        return (rating.fill_null(float("nan")) if rating.null_count() else rating).to_numpy()

    @property
    def bounds(self) -> np.ndarray:
        """[U + 1] int64: the events of user u are bounds[u] : bounds[u + 1]."""
        return self.columns.bounds

    @property
    def has_times(self) -> bool:
        """Whether every event has a time."""
        return not self.columns.timestamp.null_count()

    @property
    def event_second(self) -> np.ndarray:
        """[E] int64 Unix seconds of each event. Raises ValueError where a time is missing."""
        if not self.has_times:
            raise ValueError("some events have no time")
        return self.columns.timestamp.to_numpy()

    @cached_property
    def seconds_since_previous(self) -> np.ndarray:
        """[E] float64 from the user's event before to this one; NaN for the first, and where a time is
        missing. Times that differ never give 0."""
        result = self.seconds_before(np.arange(len(self)))
        result[self.bounds[:-1]] = np.nan
        return result

    def seconds_before(self, rows: np.ndarray) -> np.ndarray:
        """[n] float64 seconds from the event row before each of `rows` to it; NaN where a time is missing,
        and meaningless for the first event of a user."""
        before = np.maximum(rows - 1, 0)
        time, nanosecond = self.columns.timestamp, self.columns.nanosecond
        gap = (time.gather(rows) - time.gather(before)).cast(pl.Float64)
        if nanosecond is not None:
            gap += (nanosecond.gather(rows) - nanosecond.gather(before)).cast(pl.Float64) / 1e9
        return gap.fill_null(float("nan")).to_numpy().copy()

    @property
    def ordered(self) -> bool:
        """Whether the data orders a user's events, and not a seeded hash."""
        return self.columns.ordered

    @property
    def has_ratings(self) -> bool:
        return self.columns.rating.null_count() < len(self)

    @cached_property
    def rating_values(self) -> list[float]:
        """The distinct rating values of the data, ascending; empty where there are no ratings."""
        return self.columns.rating.drop_nulls().unique().sort().to_list()

    def item(self, item_id: str) -> Item:
        """The catalogue row as a record. Raises KeyError for an id that is not in the catalogue."""
        title, brand, categories, price, description = self.items.row(self.row_of[item_id])[1:]
        return Item(item_id, title, brand, categories, price, description)

    def filter_events(self, mask: np.ndarray) -> Dataset:
        """The events where `mask` [E] is true, with positions counted anew, and the whole catalogue."""
        return Dataset(self.items, self.columns.filter(mask))

    def filter_items(self, mask: np.ndarray) -> Dataset:
        """The catalogue of the items where `mask` [I] is true; all events must be of these."""
        row = (np.cumsum(mask) - 1).astype(np.int32)
        return Dataset(self.items.filter(pl.Series(mask)), replace(self.columns, item=row[self.event_item]))

    def without_order(self, seed: int) -> Dataset:
        """The same catalogue and events, each user's in the order of a seeded hash; the same object where
        they have no order already."""
        if not self.ordered:
            return self
        return make_dataset(self.items, self.events.with_columns(position=None, timestamp=None), seed)

    def with_shuffled_ties(self, seed: int) -> Dataset:
        """The same catalogue and events, each user's ordered by time alone, equal times by a seeded hash of
        user and item. Where only times ordered the data, and by this seed, they are so already."""
        return make_dataset(self.items, self.events, seed, TIME)

    def fingerprint(self) -> str:
        """SHA-256 over catalogue and events: two datasets with one fingerprint are equal."""
        digest = hashlib.sha256(self.items.write_json().encode())
        # times of whole seconds keep the fingerprint of versions without fractions
        fractions = self.columns.nanosecond is not None
        digest.update(b"[")
        for number, part in enumerate(self._parts(FINGERPRINT_ROWS)):
            rows = (part if fractions else part.drop("nanosecond")).write_json()[1:-1]
            digest.update(f"{',' if number else ''}{rows}".encode())
        digest.update(b"]")
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write items.parquet and events.parquet into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.items.write_parquet(folder / "items.parquet")
        path = folder / "events.parquet"
        if len(self) <= WHOLE_FRAME:
            self.events.write_parquet(path)
            return
        with pq.ParquetWriter(
            path, pl.DataFrame(schema=EVENT_COLUMNS).to_arrow().schema, compression="zstd"
        ) as writer:
            for part in self._parts(ROW_GROUP):
                writer.write_table(part.to_arrow().cast(writer.schema))

    def _parts(self, rows: int) -> Iterator[pl.DataFrame]:
        """The frame of the events, so many rows at a time; at least one part."""
        if "events" in self.__dict__:
            yield from (self.events[start : start + rows] for start in range(0, max(1, len(self)), rows))
            return
        for start in range(0, max(1, len(self)), rows):
            yield self.columns.frame(self.items["item_id"], start, min(start + rows, len(self)))

    @classmethod
    def load(cls, folder: Path) -> Dataset:
        """Read what `save` wrote; it was validated before it was written."""
        items = pl.read_parquet(folder / "items.parquet", glob=False)
        file = pq.ParquetFile(folder / "events.parquet")
        if file.metadata.num_rows <= WHOLE_FRAME:
            frame = pl.read_parquet(folder / "events.parquet", glob=False)
            return cls(items, _with_nanoseconds(frame))
        return cls(items, _read_columns(file, items["item_id"]))


def columns_of(events: pl.DataFrame, item_ids: pl.Series) -> EventColumns:
    """The columns of events that are grouped by user and ordered."""
    user = events["user_id"]
    begins = np.flatnonzero((user != user.shift()).fill_null(True).to_numpy())
    return EventColumns(
        user.gather(pl.Series(begins)),
        np.append(begins, len(events)).astype(np.int64),
        _catalogue_rows(events["item_id"], item_ids),
        events["timestamp"],
        events["rating"],
        events["nanosecond"] if (events["nanosecond"] != 0).any() else None,
        not events["position"].null_count(),
    )


def _catalogue_rows(ids: pl.Series, item_ids: pl.Series) -> np.ndarray:
    """[n] int32 catalogue row of each id, all of which are in the catalogue."""
    if not len(ids):
        return np.empty(0, np.int32)
    code, distinct = codes_of(ids)
    result: np.ndarray = _positions(distinct, item_ids)[code]
    return result


def _positions(ids: pl.Series, item_ids: pl.Series) -> np.ndarray:
    """[D] int32 catalogue rows of distinct ids, all of which are in the catalogue."""
    rows = pl.Series(np.arange(len(item_ids), dtype=np.int32))
    result: np.ndarray = ids.replace_strict(item_ids, rows).to_numpy()
    return result


def _read_columns(file: pq.ParquetFile, item_ids: pl.Series) -> EventColumns:
    """The columns of a file of events, some row groups at a time."""
    number = file.metadata.num_rows
    item = np.empty(number, np.int32)
    users: list[pl.Series] = []
    begins: list[np.ndarray] = []
    rest: list[pl.DataFrame] = []
    at, last, ordered = 0, "", True
    for batch in file.iter_batches(ROW_GROUP):
        part = pl.DataFrame(pl.from_arrow(batch))
        user = part["user_id"]
        new = (user != user.shift(fill_value=last)).to_numpy() if at else (
            (user != user.shift()).fill_null(True).to_numpy()
        )  # fmt: skip
        users.append(user.filter(pl.Series(new)))
        begins.append(np.flatnonzero(new) + at)
        item[at : at + len(part)] = _catalogue_rows(part["item_id"], item_ids)
        rest.append(part.select("timestamp", "rating", "nanosecond"))
        ordered &= not part["position"].null_count()
        at, last = at + len(part), user[-1]
    values = pl.concat(rest, rechunk=True)
    nanosecond = values["nanosecond"]
    return EventColumns(
        pl.concat(users, rechunk=True),
        np.append(np.concatenate(begins), number).astype(np.int64),
        item,
        values["timestamp"],
        values["rating"],
        nanosecond if (nanosecond != 0).any() else None,
        ordered,
    )


def make_dataset(
    items: pl.DataFrame,
    events: pl.DataFrame,
    seed: int = 0,
    order: tuple[str, ...] | None = None,
    codes: EventCodes | None = None,
) -> Dataset:
    """Validate and order. Every Dataset from outside is made here.

    `items` needs item_id, `events` needs user_id and item_id; the other columns of ITEM_COLUMNS and
    EVENT_COLUMNS may be absent or null. A user's events are ordered by the columns `order`, by default those
    of `order_of`; what is equal there is ordered by a seeded hash of user and item. Where neither position
    nor timestamp exists, the events have no order (`Dataset.ordered`), and that hash alone decides.

    Raises DuplicateItem, UnknownItem, BadValue or NothingLeft (no events at all).
    """
    items = _with_columns(items, ITEM_COLUMNS)
    events = _with_nanoseconds(_with_columns(events, EVENT_COLUMNS))
    _check_ids(items, events)
    codes = codes or event_codes(events)
    _check_pairs(items, events, codes)
    _check_values(events)
    text = [name for name, kind in ITEM_COLUMNS.items() if kind == pl.String]
    items = items.with_columns(pl.col(text).fill_null(""))
    items = (
        items.with_columns(order=pl.Series(seeds.hash_order(items["item_id"], seed, "catalogue order")))
        .sort("order", "item_id")
        .drop("order")
    )
    order = order_of(events) if order is None else order
    user_order = np.argsort(seeds.hash_order(codes.users, seed, "user order"), kind="stable")
    user = np.empty(len(user_order), np.int32)  # [U] of each user, ascending by id, in the dataset
    user[user_order] = np.arange(len(user), dtype=np.int32)
    user = user[codes.user]  # [E]
    item = _positions(codes.items, items["item_id"])[codes.item]
    rows = _ordered_rows(events, [user, *(_sortable(events[name]) for name in order)], seed)
    lengths = np.bincount(user, minlength=len(user_order))
    events = events.select("timestamp", "rating", "nanosecond")
    timestamp, rating, nanosecond = (events[name].gather(pl.Series(rows)) for name in events.columns)
    fractions = nanosecond if (nanosecond != 0).any() else None
    users = codes.users.gather(pl.Series(user_order))
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Dataset(items, EventColumns(users, bounds, item[rows], timestamp, rating, fractions, bool(order)))


def _sortable(values: pl.Series) -> np.ndarray:
    """[n] int64 in the order of the values, missing ones first."""
    if values.null_count():
        return values.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    return values.to_numpy()


def _ordered_rows(events: pl.DataFrame, keys: list[np.ndarray], seed: int) -> np.ndarray:
    """[E] rows of the events, sorted by the columns `keys`, what is equal there by a seeded hash of user and
    item, which is computed for these alone, and what is equal still by item id."""
    rows, again = sorted_rows(keys)
    tied = np.flatnonzero(again | np.append(again[1:], False))  # [T] places of events with an equal neighbour
    if not len(tied):
        return rows
    events = events.select("user_id", "item_id")[rows[tied]]
    pairs = (f"{user}\x1f{item}" for user, item in events.iter_rows())
    group = np.cumsum(~again[tied])  # [T] of equal events
    item, _ = codes_of(events["item_id"])
    by_hash = np.lexsort((item, seeds.hash_order(pairs, seed, "ties in time"), group))
    rows[tied] = rows[tied][by_hash]
    return rows


def order_of(events: pl.DataFrame, wanted: Order | None = None) -> tuple[str, ...]:
    """The columns by which a user's events are sorted; empty where neither positions nor times are complete.

    `wanted` "timestamp" is the time alone, "position" the position and, of equal ones, the time. By default
    the position orders, unless a user has the same one twice and there are times: then it is a position on
    a page or in a basket, so that the time orders and the position decides between equal times.
    """
    position, time = (
        name in events.columns and not events[name].null_count() for name in ("position", "timestamp")
    )
    in_time = TIME if time else ()
    if wanted == "timestamp" or not position:
        return in_time
    if not len(shared_positions(events)):
        return ("position",)
    return ("position", *in_time) if wanted == "position" or not time else (*in_time, "position")


def shared_positions(events: pl.DataFrame) -> pl.DataFrame:
    """The events whose position their user has more than once; an event repeated as a whole counts once."""
    columns = [name for name in ("user_id", "item_id", "position", *TIME) if name in events.columns]
    distinct = events.unique(columns, keep="first", maintain_order=True)
    return distinct.filter(pl.struct("user_id", "position").is_duplicated())


def _with_nanoseconds(events: pl.DataFrame) -> pl.DataFrame:
    """`nanosecond` is 0 where a time has no fraction, and missing where there is no time; older files lack
    the column."""
    fraction = pl.col("nanosecond") if "nanosecond" in events.columns else pl.lit(None, pl.Int64)
    return events.with_columns(
        nanosecond=pl.when(pl.col("timestamp").is_not_null()).then(fraction.fill_null(0))
    )


def _with_columns(frame: pl.DataFrame, columns: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    """The named columns in their types; absent ones as nulls."""
    return frame.select(
        _in_type(frame[name], kind) if name in frame.columns else pl.lit(None, kind).alias(name)
        for name, kind in columns.items()
    )


def _in_type(values: pl.Series, kind: type[pl.DataType]) -> pl.Series:
    """The column in its type; BadValue where the cast would guess or lose something (text as number, 3.0 as
    "3.0" or 3)."""
    is_text = values.dtype in (pl.String, pl.Categorical, pl.Enum)
    fits = values.dtype.is_integer() or (
        is_text if kind == pl.String else kind == pl.Float64 and values.dtype.is_numeric()
    )
    if not fits and values.dtype != pl.Null:
        raise BadValue(
            f'the column "{values.name}" holds {values.dtype} where {kind} belongs; convert it first.'
        )
    typed = values.cast(kind, strict=False)
    if typed.null_count() > values.null_count() or (
        kind == pl.Float64 and not typed.drop_nulls().is_finite().all()
    ):
        raise BadValue(
            f'the column "{values.name}" holds a value that is no number; leave it empty where it is unknown.'
        )
    return typed


def _check_ids(items: pl.DataFrame, events: pl.DataFrame) -> None:
    """Raises where an id is missing, or an item is on two rows of the catalogue."""
    needed = (
        (items, "item_id", "catalogue"),
        (events, "user_id", "interactions"),
        (events, "item_id", "interactions"),
    )
    for frame, column, where in needed:
        if missing := frame[column].null_count():
            raise BadValue(f"{missing} rows of the {where} have no {column}; remove them or fill it in.")
    if not len(events):
        raise NothingLeft("the interactions are empty; give a file with at least one row.")
    twice = items.filter(pl.col("item_id").is_duplicated())["item_id"]
    if len(twice):
        raise DuplicateItem(
            f'item "{twice[0]}" is on more than one row of the catalogue ({twice.n_unique()} such items); '
            "keep one row each."
        )


def _check_pairs(items: pl.DataFrame, events: pl.DataFrame, codes: EventCodes) -> None:
    """Raises where the catalogue lacks an item of the events, or a user takes one twice."""
    if not codes.items.is_in(items["item_id"].implode()).all():
        unknown = events.join(items.select("item_id"), on="item_id", how="anti", maintain_order="left")
        raise UnknownItem(
            f'item "{unknown["item_id"][0]}" of the interactions is not in the catalogue '
            f"({unknown['item_id'].n_unique()} such items); "
            "add it to the items file, with an id alone if nothing else is known."
        )
    if len(duplicated := codes.duplicated()):  # such an event could be held out and yet be in its own history
        user, item = events.select("user_id", "item_id").row(int(duplicated[0]))
        raise BadValue(f'user "{user}" takes item "{item}" more than once; keep one event each.')


def _check_values(events: pl.DataFrame) -> None:
    """Raises for a fraction of a second out of range, and where only some events have what orders them."""
    if not events["nanosecond"].is_between(0, 999_999_999).all():
        raise BadValue(
            'the column "nanosecond" holds a value outside 0 to 999,999,999; '
            'add whole seconds to "timestamp".'
        )
    if 0 < events["position"].null_count() < len(events):
        raise BadValue(
            'some of the interactions have a "position" and others none; give all of them one, or none.'
        )
    if events["position"].null_count() and 0 < events["timestamp"].null_count() < len(events):
        raise BadValue(
            'some of the interactions have a "timestamp" and others none; give all of them one, or none.'
        )
