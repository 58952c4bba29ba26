"""From files to a Dataset: find them, read them, check every cell, filter, and report what was done.

Legend: E events, I items.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from shelftalk.data.coding import event_codes
from shelftalk.data.dataset import (
    EVENT_COLUMNS,
    ITEM_COLUMNS,
    TIME,
    Dataset,
    make_dataset,
    order_of,
    shared_positions,
)
from shelftalk.data.filters import filter_events
from shelftalk.data.k_core import core_of
from shelftalk.data.sources.formats import FORMATS
from shelftalk.data.sources.layouts import Layout
from shelftalk.data.sources.locating import Source, check_file, locate, sha256
from shelftalk.data.sources.lookalikes import lookalike_hint
from shelftalk.data.sources.settings import DataSettings
from shelftalk.data.sources.table import Table, identifiers, numbers, shown, texts, whole_numbers
from shelftalk.data.sources.text_files import DETECTED, STARTS, TextForm, ending_of
from shelftalk.data.sources.times import times
from shelftalk.declarations import FileFormat
from shelftalk.errors import (
    BadValue,
    DuplicateItem,
    MissingColumn,
    NothingLeft,
    UnknownItem,
    UnreadableFile,
)

CHECKS: dict[str, Callable[[Table, str], pl.Series]] = {
    "user_id": identifiers,
    "item_id": identifiers,
    "position": whole_numbers,
    "timestamp": times,
    "rating": numbers,
    "title": texts,
    "brand": texts,
    "categories": texts,
    "price": numbers,
    "description": texts,
}
COLUMNS_OF_EVENTS = [name for name in EVENT_COLUMNS if name in CHECKS]
SOURCE_ROW = "source_row"  # the row in its file, for messages; dropped after the checks
NEARLY = 0.8
"""Likeness of two names of columns (difflib's ratio) from which on one is perhaps meant by the other."""
NO_ORDER = "nothing"
"""`ordered_by` of data with neither positions nor times."""
TIMES = {"at", "created", "date", "datetime", "ordered", "position", "sequence", "time", "timestamp", "ts"}
"""Words in the name of a column that may order events."""


@dataclass(frozen=True, slots=True)
class DataReport:
    """What was read and what was kept of it: plain facts for a run folder and a report. Shares are between 0
    and 1.

    `rows_read` counts the rows of the interactions file, `events_read` those left when repeats are dropped,
    `users_read` and `items_read` their users and items, `catalogue_read` the rows of the items file.
    `filters` has what each filter before the k-core took away. The counts without `_read` are those of the
    Dataset, after the k-core filter. `ordered_by` names the columns
    that order, or is NO_ORDER. `notes` has a sentence, with a count and an example, for each kind of value
    that is not what it looks like or was not kept as it is, and for events that a seeded hash orders.
    """

    source: str
    interactions_file: str
    interactions_sha256: str
    items_file: str
    items_sha256: str
    rows_read: int
    repeats_dropped: int
    repeats: str
    users_read: int
    items_read: int
    events_read: int
    catalogue_read: int
    filters: list[dict[str, Any]]
    k_core: int
    k_core_on: str
    k_core_passes: int
    users: int
    items: int
    events: int
    catalogue: int
    items_with_title: float
    items_with_brand: float
    items_with_categories: float
    items_with_price: float
    items_with_description: float
    events_with_rating: float
    events_with_timestamp: float
    events_with_position: float
    ordered_by: str
    users_tied_at_end: float
    tie_rule: str
    notes: list[str]

    def recounted(self, dataset: Dataset) -> DataReport:
        """The same report with the counts and shares of a dataset that was filtered once more."""
        positions = {"events_with_position": self.events_with_position}  # a Dataset has its own positions
        return replace(self, **_counts(dataset.items, dataset.events) | positions)

    def counts(self) -> dict[str, dict[str, int]]:
        """Users, interactions and items: how many were read and how many are kept."""
        return {
            "users": {"read": self.users_read, "kept": self.users},
            "interactions": {"read": self.rows_read, "kept": self.events},
            "items": {"read": self.catalogue_read, "kept": self.catalogue},
        }

    def read_and_kept(self) -> str:
        """The counts as a sentence, with what removed the others."""
        read, kept = (
            ", ".join(f"{number[which]:,} {what}" for what, number in self.counts().items())
            for which in ("read", "kept")
        )
        why = [f"repeats dropped: {self.repeats_dropped:,}"] if self.repeats_dropped else []
        if removed := sum(step["events"] for step in self.filters):
            why.append(f"filtered: {removed:,}")
        if self.k_core > 1:
            counted = "all interactions, held-out ones included"
            if self.k_core_on == "training":
                counted = "training interactions alone"
            why.append(f"{self.k_core}-core, counted on {counted}")
        if self.catalogue < self.catalogue_read:
            why.append("items without a counted interaction left out")
        elif self.items < self.catalogue:
            why.append(f"{self.catalogue - self.items:,} of the items without an interaction")
        return f"Read {read}; kept {kept}" + (f" ({'; '.join(why)})." if why else ".")


def read_dataset(settings: DataSettings, seed: int, order_needed: bool = True) -> tuple[Dataset, DataReport]:
    """Read interactions and catalogue, check every cell, drop repeats, filter to the k-core, and order by
    `seed`.

    A filter on training events alone (`k_core_on`) is applied by the split, together with that of the
    catalogue. Data without a position or time is read as it is; MissingColumn is raised where a column seems
    to hold one, unless the order is not needed. Raises MissingFile, UnreadableFile, MissingColumn, BadValue,
    UnknownItem, DuplicateItem or NothingLeft, naming file, column and first bad row. Nothing is repaired:
    repeats dropped and rows filtered are counted in the report, and values that are not what they look like
    are noted there.
    """
    source = locate(settings)
    columns = [name for name in COLUMNS_OF_EVENTS if name != "position" or settings.order != "timestamp"]
    events_table, items_table = _tables(source, settings, columns)
    layout, ids, of_events = source.layout, ["user_id", "item_id"], settings.interactions_columns
    items = _checked(items_table, ITEM_COLUMNS, settings.items_columns, ["item_id"], "items_columns", layout)
    read = _checked(events_table, columns, of_events, ids, "interactions_columns", layout)
    if source.layout:
        items = _completed(events_table, read, items_table, items)
    _check_catalogue(items_table, items)
    _check_known(events_table, read, items)
    order = _order(events_table, read, settings, order_needed, layout)
    events = _without_repeats(events_table, read, order, settings.repeats)
    by_split = settings.k_core_on == "training"
    filtered, steps = filter_events(events, settings.filters, order, seed)
    codes = event_codes(filtered)
    core, passes = core_of(codes.user, codes.item, 0 if by_split else settings.k_core)
    kept, codes = filtered.filter(pl.Series(core)), codes.filter(core)
    every_item = by_split or settings.catalogue == "all"
    catalogue = items if every_item else items.join(kept, on="item_id", how="semi")
    facts = (
        _counts(catalogue, kept)
        | _order_facts(events_table, kept, order)
        | {
            "source": source.name,
            "interactions_file": source.files["interactions"].name,
            "interactions_sha256": sha256(source.files["interactions"]),
            "items_file": source.items_path.name,
            "items_sha256": sha256(source.items_path),
            "rows_read": len(read),
            "repeats_dropped": len(read) - len(events),
            "repeats": settings.repeats,
            "users_read": events["user_id"].n_unique(),
            "items_read": events["item_id"].n_unique(),
            "events_read": len(events),
            "catalogue_read": len(items),
            "filters": [asdict(step) | {"sentence": step.sentence()} for step in steps],
            "k_core": settings.k_core,
            "k_core_on": settings.k_core_on,
            "k_core_passes": passes,
            "notes": [*items_table.notes, *events_table.notes, *_notes_on_ties(kept, order)],
        }
    )
    dataset = make_dataset(catalogue.drop(SOURCE_ROW), kept.drop(SOURCE_ROW), seed, order, codes)
    return dataset, DataReport(**facts)


def checked_frames(settings: DataSettings) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Interactions and catalogue as they are read, every cell checked, in our columns and types. Raises as
    `read_dataset`."""
    source = locate(settings)
    events_table, items_table = _tables(source, settings, COLUMNS_OF_EVENTS)
    layout, ids, of_events = source.layout, ["user_id", "item_id"], settings.interactions_columns
    items = _checked(items_table, ITEM_COLUMNS, settings.items_columns, ["item_id"], "items_columns", layout)
    events = _checked(events_table, COLUMNS_OF_EVENTS, of_events, ids, "interactions_columns", layout)
    if source.layout:
        items = _completed(events_table, events, items_table, items)
    _check_catalogue(items_table, items)
    return events.drop(SOURCE_ROW), items.drop(SOURCE_ROW)


def checked_events(path: Path, settings: DataSettings) -> pl.DataFrame:
    """The interactions of one more file with the columns that the settings name, which stay as they are.
    Raises as `read_dataset`."""
    mapping = settings.interactions_columns
    table = _read(path, COLUMNS_OF_EVENTS, mapping, settings.text_form)
    checked = _checked(table, COLUMNS_OF_EVENTS, mapping, ["user_id", "item_id"], "")
    return checked.drop(SOURCE_ROW)


def checked_items(path: Path, settings: DataSettings) -> pl.DataFrame:
    """As `checked_events`, of a catalogue."""
    table = _read(path, ITEM_COLUMNS, settings.items_columns, settings.text_form)
    checked = _checked(table, ITEM_COLUMNS, settings.items_columns, ["item_id"], "")
    _check_catalogue(table, checked)
    return checked.drop(SOURCE_ROW)


def catalogue_order(settings: DataSettings) -> list[str]:
    """The item ids in the order of the catalogue's file, which a Dataset does not keep. Raises as
    `read_dataset` does."""
    source = locate(settings)
    form = settings.text_form
    if source.layout is not None:
        table, mapping = source.layout.read("items")(source.files, form), {}
    else:
        mapping = settings.items_columns
        table = _read(source.files["items"], ["item_id"], mapping, form)
    checked = _checked(table, ["item_id"], mapping, ["item_id"], "items_columns", source.layout)
    return checked["item_id"].unique(maintain_order=True).to_list()


def _tables(source: Source, settings: DataSettings, columns: Iterable[str]) -> tuple[Table, Table]:
    """Interactions and catalogue as they were read, with their own column names or, of a published data set,
    ours."""
    form = settings.text_form
    if source.layout is None:
        return (
            _read(source.files["interactions"], columns, settings.interactions_columns, form),
            _read(source.files["items"], ITEM_COLUMNS, settings.items_columns, form),
        )
    for path in source.files.values():
        check_file(path)
    events, items = (source.layout.read(part)(source.files, form) for part in ("interactions", "items"))
    for table in (events, items):
        _check_rows(table)
    return events, items


def _read(path: Path, columns: Iterable[str], mapping: Mapping[Any, str], form: TextForm) -> Table:
    """As `read_table`, with the columns by their names in the file."""
    return read_table(path, {mapping.get(name, name) for name in columns}, form=form)


def read_table(
    path: Path,
    wanted: Collection[str],
    formats: Mapping[str, FileFormat] = FORMATS,
    form: TextForm = DETECTED,
) -> Table:
    """The wanted columns of a file, through the reader of its ending. Raises MissingFile, UnreadableFile,
    NothingLeft."""
    check_file(path)
    ending = ending_of(path)
    file_format = formats.get(ending)
    if file_format is None:
        raise UnreadableFile(
            f'{path.name}: no reader for the ending "{path.suffix}"; '
            f"convert it to one of {', '.join(formats)}."
        )
    if path.suffix.lower() in STARTS and not file_format.is_text:
        raise UnreadableFile(
            f"{path.name}: a {ending} file is compressed inside; decompress it and take {path.suffix} off "
            "its name."
        )
    if not path.stat().st_size:
        raise UnreadableFile(f"{path.name} is empty; give a file with at least one row.")
    table: Table = file_format.load()(path, wanted, form)
    _check_rows(table)
    return table


def _check_rows(table: Table) -> None:
    if not len(table.row_numbers):
        raise NothingLeft(f"{table.path.name} has columns but no rows; give a file with at least one row.")


def _checked(
    table: Table,
    columns: Collection[str],
    mapping: Mapping[Any, str],
    needed: list[str],
    setting: str,
    layout: Layout | None = None,
) -> pl.DataFrame:
    """Our columns in our types, times as both columns of TIME, and SOURCE_ROW. Columns that the file lacks
    are left out, unless they are `needed`. `setting` maps columns, "" where none can be set; `layout` of a
    published data set, which has no mapping."""
    present, read = {}, {mapping.get(name, name) for name in columns}
    unread = [name for name in table.names if name not in read]
    for name in columns:
        theirs = mapping.get(name, name)
        if theirs in table.names:
            present[name] = CHECKS[name](table, theirs).alias(name)
        elif name in needed or name in mapping:
            if layout is not None:
                raise _not_as_published(table, layout)
            mapped_by = f"data.{setting}.{name}" if setting else ""
            raise _missing_column(table, unread or table.names, theirs, mapped_by)
        elif setting and layout is None and (other := _meant(name, unread)):
            remedy = f'set data.{setting}.{name} = "{other}" if "{name}" is meant'
            table.notes.append(f'{table.path.name}: the column "{other}" is not read; {remedy}.')
    frame = pl.DataFrame([*present.values(), table.row_numbers.alias(SOURCE_ROW)])
    return frame.unnest("timestamp") if "timestamp" in frame else frame


def _meant(name: str, unread: Iterable[str]) -> str | None:
    """A column that is not read and has nearly this name."""
    plain = {_plain(other): other for other in unread}
    close = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=NEARLY)
    return plain[close[0]] if close else None


def _missing_column(table: Table, unread: Iterable[str], theirs: str, setting: str) -> MissingColumn:
    """The error for a column that is not there, naming the nearest of those that nothing else reads, and the
    setting that maps it; where there is none, the name that the column of the file must have."""
    plain = {_plain(name): name for name in unread}
    close = difflib.get_close_matches(_plain(theirs), plain, n=1, cutoff=0.5)
    file_format = FORMATS.get(ending_of(table.path))
    has_header = file_format is not None and file_format.has_header
    if has_header and any(_is_number(name) for name in table.names):
        line = ", ".join(table.names)
        remedy = f"its first line seems to be data ({line}); put a line of column names above it."
    elif has_header and len(table.names) == 1:
        remedy = f'it has one column, "{table.names[0]}"; name the columns in the first line and put commas '
        remedy += "between the cells."
    elif close:
        near = plain[close[0]]
        change = f'set {setting} = "{near}"' if setting else f'rename it "{theirs}"'
        remedy = f'the nearest is "{near}"; {change} if that is meant.'
    else:
        change = f"set {setting} to the one that is meant" if setting else "rename the one that is meant"
        remedy = f"it has {', '.join(table.names)}; {change}."
    return MissingColumn(f'{table.path.name} has no column "{theirs}": {remedy}')


def _not_as_published(table: Table, layout: Layout) -> MissingColumn:
    return MissingColumn(
        f"{table.path.name} has not the columns of {layout.title}; copy it again as it was published, or "
        "name the two files in data.interactions and data.items, and their columns in "
        "data.interactions_columns and data.items_columns."
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _completed(
    events_table: Table, events: pl.DataFrame, items_table: Table, items: pl.DataFrame
) -> pl.DataFrame:
    """The catalogue of a published data set with one row for each item: the first of several rows, and an id
    alone for an item of the interactions that has no row. Both are noted."""
    again = items.filter(~pl.col("item_id").is_first_distinct())
    if len(again):
        count = f"{len(again):,} of {len(items):,} rows repeat an item"
        example = f"for instance {shown(again['item_id'][0])} in {items_table.unit} {again[SOURCE_ROW][0]}"
        items_table.notes.append(f"{items_table.path.name}: {count}, {example}; the first row is kept.")
        items = items.unique("item_id", keep="first", maintain_order=True)
    unknown = events.join(items, on="item_id", how="anti", maintain_order="left")
    unknown = unknown.unique("item_id", keep="first", maintain_order=True)
    if len(unknown):
        count = f"{len(unknown):,} of {events['item_id'].n_unique():,} items of {events_table.path.name}"
        example = (
            f"for instance {shown(unknown['item_id'][0])} in {events_table.unit} {unknown[SOURCE_ROW][0]}"
        )
        note = f"{count} have no row in {items_table.path.name} and are known by id alone, {example}."
        items_table.notes.append(note)
        items = pl.concat([items, unknown.select("item_id", SOURCE_ROW)], how="diagonal")
    return items


def _check_catalogue(table: Table, items: pl.DataFrame) -> None:
    """Raise DuplicateItem for the first row whose id is on an earlier one too."""
    again = items.filter(~pl.col("item_id").is_first_distinct())
    if len(again):
        item, row = again["item_id"][0], again[SOURCE_ROW][0]
        raise DuplicateItem(
            f'{table.path.name}, {table.unit} {row}: item "{item}" is on an earlier row already '
            f"({again['item_id'].n_unique()} such items); keep one row each."
        )


def _check_known(table: Table, events: pl.DataFrame, items: pl.DataFrame) -> None:
    """Raise UnknownItem for the first event whose item the catalogue lacks."""
    unknown = events.join(items, on="item_id", how="anti", maintain_order="left")
    if len(unknown):
        item, row = unknown["item_id"][0], unknown[SOURCE_ROW][0]
        near = lookalike_hint(item, items["item_id"])
        hint = f", which {near}; write the id alike in both files, or" if near else ";"
        raise UnknownItem(
            f'{table.path.name}, {table.unit} {row}: item "{item}" is not in the catalogue '
            f"({unknown['item_id'].n_unique()} such items){hint} "
            "add it to the items file, with an id alone if nothing else is known."
        )


def _order(
    table: Table, events: pl.DataFrame, settings: DataSettings, needed: bool, layout: Layout | None
) -> tuple[str, ...]:
    """The columns that order a user's events, as `order_of` says, and none for data without an order; where
    one is `needed`, an error if a column seems to hold it. Incomplete columns are refused, odd ones noted."""
    mapping: Mapping[Any, str] = settings.interactions_columns
    filled = [
        name
        for name in ("position", "timestamp")
        if name in events and events[name].null_count() < len(events)
    ]
    if settings.order is not None and settings.order not in filled:
        raise MissingColumn(
            f'{table.path.name} has no "{settings.order}" to order by; '
            "leave data.order out, or fill the column in."
        )
    if not filled:
        if needed:
            _check_no_order(table, events, mapping, layout)
        return ()
    first = settings.order or filled[0]
    rows = events[first].is_null().arg_true()
    if len(rows):
        fault = f"missing, where {events[first].count()} rows have one"
        remedy = f"fill it in or remove the row ({len(rows)} such rows)"
        if first == "position" and _complete(events, "timestamp"):
            remedy += ', or set data.order = "timestamp"'
        raise table.bad_value(mapping.get(first, first), rows[0], f"{fault}; {remedy}.")
    order = order_of(events, settings.order)
    if settings.order is None and "position" in filled and _complete(events, "timestamp"):
        _note_order(table, events, order)
    return order


def _complete(events: pl.DataFrame, column: str) -> bool:
    return column in events and not events[column].null_count()


def _check_no_order(
    table: Table, events: pl.DataFrame, mapping: Mapping[Any, str], layout: Layout | None
) -> None:
    """Raises MissingColumn where an empty column, or one of another name, seems to be meant to order."""
    random = 'if nothing orders the events, set split.scheme = "random"'
    empty = [f'"{mapping.get(name, name)}"' for name in ("position", "timestamp") if name in events]
    if empty:
        held = f"{' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty in all {len(events):,} rows"
        remedy = "fill it in"
        if layout is None:
            remedy += ", or set data.interactions_columns.timestamp to another column"
        raise MissingColumn(f"{table.path.name}: {held}, so the events have no order; {remedy}; {random}.")
    if close := next(filter(_seems_to_order, table.names), None):
        if layout is not None:
            raise _not_as_published(table, layout)
        raise MissingColumn(
            f'{table.path.name} has neither a "position" nor a "timestamp", but a column "{close}": if that '
            f'is to order the events, set data.interactions_columns.timestamp = "{close}"; {random}.'
        )


def _seems_to_order(column: str) -> bool:
    """Whether a word of the column's name is one of TIMES."""
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).lower())
    return not TIMES.isdisjoint(words)


def _note_order(table: Table, events: pl.DataFrame, order: tuple[str, ...]) -> None:
    """Note how many positions do not order, or that times and positions disagree."""
    shared = shared_positions(events)
    if len(shared):
        user, position = shared.select("user_id", "position").row(0)
        fault = f"{len(shared):,} interactions share their position with another of their user"
        example = f"for instance user {shown(user)} has position {position} more than once"
        rule = f'events are ordered by {_by(order)}; set data.order = "position" if positions are to order.'
        table.notes.append(f"{table.path.name}: {fault}, {example}, so {rule}")
        return
    second, fraction = (pl.col(name) - pl.col(name).shift().over("user_id") for name in TIME)
    back = events.sort("user_id", *order).filter((second < 0) | ((second == 0) & (fraction < 0)))
    if len(back):
        user, position = back.select("user_id", SOURCE_ROW).row(0)
        fault = f"{len(back):,} interactions have a later position and an earlier timestamp than the one "
        fault += "before them"
        example = f"for instance user {shown(user)} in {table.unit} {position}"
        rule = 'the position orders; set data.order = "timestamp" if times are to order.'
        table.notes.append(f"{table.path.name}: {fault}, {example}; {rule}")


def _by(order: tuple[str, ...]) -> str:
    """The columns of an order for a sentence; a fraction of a second is part of its timestamp."""
    return ", then ".join(name for name in order if name != TIME[1])


def _notes_on_ties(events: pl.DataFrame, order: tuple[str, ...]) -> list[str]:
    """How many events a seeded hash orders, where the others have an order."""
    if not order:
        return []
    tied = events.filter(pl.struct("user_id", *order).is_duplicated())
    if not len(tied):
        return []
    user, by = tied["user_id"].min(), _by(order).replace(", then ", " and ")
    held = f"{len(tied):,} of {len(events):,} interactions have the same {by} as another of their user"
    return [f"{held}, for instance of user {shown(user)}, and are in the order of a seeded hash."]


def _without_repeats(
    table: Table, events: pl.DataFrame, order: tuple[str, ...], repeats: str
) -> pl.DataFrame:
    """One event per user and item: the first or last by the columns `order`, then by time and rating."""
    pair = ["user_id", "item_id"]
    again = events.filter(~pl.struct(pair).is_first_distinct())
    if not len(again):
        return events
    if repeats == "refuse":
        user, item = again.select(pair).row(0)
        raise BadValue(
            f'{table.path.name}, {table.unit} {again[SOURCE_ROW][0]}: user "{user}" takes item "{item}" '
            f'again ({len(again)} such rows); keep one row each, or set data.repeats = "first" or "last".'
        )
    user, item = again.select(pair).row(0)
    dropped = f"{len(again):,} of {len(events):,} rows repeat a user and an item"
    example = f"for instance {shown(user)} and {shown(item)} in {table.unit} {again[SOURCE_ROW][0]}"
    rule = f'the {repeats} of each is kept (data.repeats = "{repeats}")'
    table.notes.append(f"{table.path.name}: {dropped}, {example}; {rule}.")
    values = [name for name in dict.fromkeys((*order, *TIME, "rating")) if name in events]
    if repeats == "highest" and "rating" in values:
        values = ["rating", *(name for name in values if name != "rating")]
    return events.sort(*pair, *values).unique(
        pair, keep="first" if repeats == "first" else "last", maintain_order=True
    )


def _counts(items: pl.DataFrame, events: pl.DataFrame) -> dict[str, Any]:
    """How much of what the finished frames hold."""
    return {
        "users": events["user_id"].n_unique(),
        "items": events["item_id"].n_unique(),
        "events": len(events),
        "catalogue": len(items),
        **{f"items_with_{name}": _share(items, name) for name in ITEM_COLUMNS if name != "item_id"},
        **{f"events_with_{name}": _share(events, name) for name in ("rating", "timestamp", "position")},
    }


def _order_facts(table: Table, events: pl.DataFrame, order: tuple[str, ...]) -> dict[str, Any]:
    """What orders a user's events, how often the last two are equal in it, and both as a sentence."""
    if not order:
        columns = f"it has {', '.join(table.names)}"
        rule = f"{table.path.name} has neither a position nor a timestamp ({columns}), so the events have no "
        rule += "order; a seeded hash gives a user's one."
        return {"ordered_by": NO_ORDER, "users_tied_at_end": 0.0, "tie_rule": rule}
    tied = _tied_at_end(events, order)
    by = _by(order)
    both = by.replace(", then ", " and ")
    rule = (
        f"a user's events are ordered by {by}; what is equal there is ordered by a seeded hash of user and "
    )
    rule += f"item ({tied:.1%} of the users have their last two events at the same {both})."
    return {"ordered_by": by, "users_tied_at_end": tied, "tie_rule": rule}


def _share(frame: pl.DataFrame, column: str) -> float:
    """Share of the rows with a value; empty text is none."""
    if column not in frame or not len(frame):
        return 0.0
    values = frame[column]
    held = values.is_not_null() & (values != "") if values.dtype == pl.String else values.is_not_null()
    return float(held.sum()) / len(frame)


def _tied_at_end(events: pl.DataFrame, order: tuple[str, ...]) -> float:
    """Share of the users whose last two events are equal in the columns `order`."""
    last = events.sort("user_id", *order).group_by("user_id").tail(2)
    tied = last.group_by("user_id").agg(tied=pl.struct(order).is_duplicated().any())
    return float(tied["tied"].mean())  # type: ignore[arg-type]
