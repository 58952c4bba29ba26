"""Dataset: a catalogue and who took what, when. Validated once, when it is made, and trusted afterwards.

Legend: I items, U users, E events.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from shelftalk import seeds
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


@dataclass(frozen=True, eq=False)
class Dataset:
    """A catalogue and time-ordered histories.

    `items` has the columns of ITEM_COLUMNS ("" for missing text, null for a missing price), one row per item,
    in catalogue order: that of a seeded hash of the item id, independent of the file. `events` has
    EVENT_COLUMNS (null for a missing time or rating), grouped by user in the order of a seeded hash of the
    user id, oldest first within a user; `position` counts 0, 1, 2 ... within the user, `timestamp` is in
    whole Unix seconds and `nanosecond` the fraction of the second. Where the events have no order, `position`
    is null and a user's events are in the order of a seeded hash. Made by `make_dataset`.
    """

    items: pl.DataFrame
    events: pl.DataFrame

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
        return self.events["user_id"].unique(maintain_order=True).to_list()

    @cached_property
    def event_item(self) -> np.ndarray:
        """[E] int32 catalogue row of each event."""
        rows = pl.Series(np.arange(len(self.items), dtype=np.int32))
        return self.events["item_id"].replace_strict(self.items["item_id"], rows).to_numpy()

    @cached_property
    def event_rating(self) -> np.ndarray:
        """[E] float64 rating of each event on the data's own scale; NaN where there is none."""
        return self.events["rating"].fill_null(float("nan")).to_numpy()

    @cached_property
    def bounds(self) -> np.ndarray:
        """[U + 1] int64: the events of user u are bounds[u] : bounds[u + 1]."""
        lengths = self.events.group_by("user_id", maintain_order=True).len()["len"].to_numpy()
        return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    @cached_property
    def event_second(self) -> np.ndarray:
        """[E] int64 Unix seconds of each event. Raises ValueError where a time is missing."""
        if self.events["timestamp"].null_count():
            raise ValueError("some events have no time")
        return self.events["timestamp"].to_numpy()

    @cached_property
    def seconds_since_previous(self) -> np.ndarray:
        """[E] float64 from the user's event before to this one; NaN for the first, and where a time is
        missing. Times that differ never give 0."""
        second, fraction = (pl.col(name) - pl.col(name).shift().over("user_id") for name in TIME)
        gap = second.cast(pl.Float64) + fraction.cast(pl.Float64) / 1e9
        return self.events.select(gap.fill_null(float("nan"))).to_series().to_numpy()

    @property
    def ordered(self) -> bool:
        """Whether the data orders a user's events, and not a seeded hash."""
        return self.events["position"].null_count() == 0

    @property
    def has_ratings(self) -> bool:
        return self.events["rating"].null_count() < len(self.events)

    @cached_property
    def rating_values(self) -> list[float]:
        """The distinct rating values of the data, ascending; empty where there are no ratings."""
        return self.events["rating"].drop_nulls().unique().sort().to_list()

    def item(self, item_id: str) -> Item:
        """The catalogue row as a record. Raises KeyError for an id that is not in the catalogue."""
        title, brand, categories, price, description = self.items.row(self.row_of[item_id])[1:]
        return Item(item_id, title, brand, categories, price, description)

    def filter_events(self, mask: np.ndarray) -> Dataset:
        """The events where `mask` [E] is true, with positions counted anew, and the whole catalogue."""
        events = self.events.filter(pl.Series(mask))
        position = pl.int_range(pl.len(), dtype=pl.Int64).over("user_id")
        return Dataset(self.items, events.with_columns(position=position) if self.ordered else events)

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
        digest = hashlib.sha256()
        # times of whole seconds keep the fingerprint of versions without fractions
        fractions = (self.events["nanosecond"] != 0).any()
        for frame in (self.items, self.events if fractions else self.events.drop("nanosecond")):
            digest.update(frame.write_json().encode())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write items.parquet and events.parquet into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.items.write_parquet(folder / "items.parquet")
        self.events.write_parquet(folder / "events.parquet")

    @classmethod
    def load(cls, folder: Path) -> Dataset:
        """Read what `save` wrote; it was validated before it was written."""
        items, events = folder / "items.parquet", folder / "events.parquet"
        return cls(pl.read_parquet(items, glob=False), _with_nanoseconds(pl.read_parquet(events, glob=False)))


def make_dataset(
    items: pl.DataFrame, events: pl.DataFrame, seed: int = 0, order: tuple[str, ...] | None = None
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
    _check(items, events)
    text = [name for name, kind in ITEM_COLUMNS.items() if kind == pl.String]
    items = items.with_columns(pl.col(text).fill_null(""))
    items = (
        items.with_columns(order=pl.Series(seeds.hash_order(items["item_id"], seed, "catalogue order")))
        .sort("order", "item_id")
        .drop("order")
    )
    order = order_of(events) if order is None else order
    pairs = [f"{user}\x1f{item}" for user, item in zip(events["user_id"], events["item_id"], strict=True)]
    users = events.select(pl.col("user_id").unique().sort())["user_id"]
    user_order = pl.DataFrame({"user_id": users, "user_order": seeds.hash_order(users, seed, "user order")})
    events = (
        events.with_columns(tie=pl.Series(seeds.hash_order(pairs, seed, "ties in time")))
        .join(user_order, on="user_id", how="left")
        .sort("user_order", "user_id", *order, "tie", "item_id")
        .with_columns(
            position=pl.int_range(pl.len(), dtype=pl.Int64).over("user_id")
            if order
            else pl.lit(None, pl.Int64)
        )
        .select(list(EVENT_COLUMNS))
    )
    return Dataset(items, events)


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


def _check(items: pl.DataFrame, events: pl.DataFrame) -> None:
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
    unknown = events.join(items.select("item_id"), on="item_id", how="anti")["item_id"]
    if len(unknown):
        raise UnknownItem(
            f'item "{unknown[0]}" of the interactions is not in the catalogue '
            f"({unknown.n_unique()} such items); "
            "add it to the items file, with an id alone if nothing else is known."
        )
    again = events.filter(pl.struct("user_id", "item_id").is_duplicated())
    if len(again):  # such an event could be held out and yet be in its own history
        user, item = again.select("user_id", "item_id").row(0)
        raise BadValue(f'user "{user}" takes item "{item}" more than once; keep one event each.')
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
