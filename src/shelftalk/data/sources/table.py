"""What every reader returns, and the checks that turn its columns into the types of a Dataset.

A reader is a function `read(path, wanted) -> Table`. It raises UnreadableFile where the file is not of its format; what a
cell may hold is decided here, once for all formats, so that each format gives the same sentence for the same fault.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import polars as pl

from shelftalk.errors import BadValue

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LARGEST = 2.0**63


@dataclass(frozen=True, eq=False)
class Table:
    """A file as read, with the values that it holds.

    `names` are all columns of the file; `frame` has those that were wanted, n rows; a column of mixed types is pl.Object.
    `places` [n] int64 says where a row stands in the file, counted from 1 in `unit`s (a CSV's header is line 1).
    """

    path: Path
    names: list[str]
    frame: pl.DataFrame
    places: pl.Series
    unit: str

    def bad_value(self, column: str, row: int, fault: str) -> BadValue:
        """The error for the cell at `row` (counted from 0) of `column`; `fault` ends in the remedy."""
        return BadValue(f'{self.path.name}, {self.unit} {self.places[row]}, column "{column}": {fault}')


class Reader(Protocol):
    """Reads a file of one format, of its columns those wanted."""

    def __call__(self, path: Path, wanted: Collection[str]) -> Table: ...


def identifiers(table: Table, column: str) -> pl.Series:
    """[n] String, none missing. Integers become text; floats are refused, since 3.0 and 3 would be two ids."""
    values = _one_type(table, column)
    if values.dtype != pl.String and not values.dtype.is_integer():
        _refuse_type(table, column, values, "is not an id; store ids as text or integers.")
    ids = values.cast(pl.String)
    _refuse(table, column, ids, ids.is_null() | (ids == ""), "has no id; fill it in or remove the row.")
    return ids


def texts(table: Table, column: str) -> pl.Series:
    """[n] String, null where missing. Any text is legal and goes through unchanged."""
    values = _one_type(table, column)
    if values.dtype != pl.String and not values.dtype.is_integer():
        _refuse_type(table, column, values, "is not text; store the column as text (join several values into one).")
    return values.cast(pl.String)


def numbers(table: Table, column: str) -> pl.Series:
    """[n] Float64, null where missing; not-a-number and infinity are refused, as numbers and as text."""
    values = _blank_as_null(_one_type(table, column))
    if values.dtype != pl.String and not values.dtype.is_numeric():
        _refuse_type(table, column, values, "is not a number; correct it or leave it empty.")
    if values.dtype == pl.Float32:
        values = values.cast(pl.String)  # the shortest text: a 32-bit 4.1 is meant as 4.1, not as 4.099999904632568
    parsed = values.cast(pl.Float64, strict=False)
    wrong = values.is_not_null() & ~parsed.is_finite().fill_null(False)
    _refuse(table, column, values, wrong, "is not a number; correct it or leave it empty.")
    return parsed


def whole_numbers(table: Table, column: str) -> pl.Series:
    """[n] Int64, null where missing; 5.0 is a whole number, 5.5 is refused."""
    values = _blank_as_null(_one_type(table, column))
    if values.dtype != pl.String and not values.dtype.is_numeric():
        _refuse_type(table, column, values, "is not a whole number; correct it or leave it empty.")
    parsed = _whole(values)
    wrong = values.is_not_null() & parsed.is_null()
    _refuse(table, column, values, wrong, "is not a whole number; correct it or leave it empty.")
    return parsed


def times(table: Table, column: str) -> pl.Series:
    """[n] Int64 Unix seconds, null where missing.

    Accepts whole numbers, taken as Unix seconds, and dates: columns of a date or datetime type and text in ISO 8601
    ("2014-07-23", "2014-07-23T10:15:00+02:00"), converted to UTC. A datetime without a zone is taken as UTC; fractions of
    a second are cut off. A column holds numbers or dates, not both.
    """
    values = _blank_as_null(_one_type(table, column))
    if values.dtype in (pl.Date, pl.Datetime):
        return values.dt.epoch("s").cast(pl.Int64)
    if values.dtype != pl.String or not _first_is_iso(values):
        return whole_numbers(table, column)
    parsed = pl.Series(column, [None if text is None else _unix_seconds(text) for text in values.to_list()], pl.Int64)
    wrong = values.is_not_null() & parsed.is_null()
    _refuse(table, column, values, wrong, "is not an ISO 8601 date as in the rows above; write all times alike.")
    return parsed


def _one_type(table: Table, column: str) -> pl.Series:
    """The column, its type decided: categories become text, nothing at all becomes missing text, a mixture is refused."""
    values = table.frame[column]
    if values.dtype == pl.Object:
        raise _mixed(table, column, values.to_list())
    return values.cast(pl.String) if values.dtype in (pl.Categorical, pl.Enum, pl.Null) else values


def _mixed(table: Table, column: str, values: list[object]) -> BadValue:
    """The error for a column of mixed types, or of one that is neither text nor a number of 64 bits."""
    held = [row for row, value in enumerate(values) if value is not None]
    other = [row for row in held if type(values[row]) is not type(values[held[0]])]
    if other:
        fault = f"{_shown(values[other[0]])} is of another type than the rows above; give the column one type, text or numbers."
        return table.bad_value(column, other[0], fault)
    fault = f"{_shown(values[held[0]])} is neither text nor a number that 64 bits can hold; store the column as text."
    return table.bad_value(column, held[0], fault)


def _blank_as_null(values: pl.Series) -> pl.Series:
    """Text without the space around it, null where nothing is left; other types as they are."""
    if values.dtype != pl.String:
        return values
    values = values.str.strip_chars()
    return values.set(values == "", None)


def _whole(values: pl.Series) -> pl.Series:
    """[n] Int64, null where the value is no whole number of 64 bits."""
    floats = values.cast(pl.Float64, strict=False)
    whole = floats.is_finite() & (floats == floats.round()) & (floats.abs() < LARGEST)
    rounded = floats.set(~whole.fill_null(False), None).cast(pl.Int64, strict=False)
    if values.dtype.is_float():
        return rounded
    exact = values.cast(pl.Int64, strict=False)  # beyond 2**53 a float is no longer exact
    return exact.zip_with(exact.is_not_null(), rounded)


def _first_is_iso(values: pl.Series) -> bool:
    first = next((text for text in values if text is not None), "")
    return _unix_seconds(first) is not None and _whole(pl.Series([first]))[0] is None


def _unix_seconds(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
        return (moment.replace(tzinfo=moment.tzinfo or UTC) - EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError):
        return None


def _refuse(table: Table, column: str, values: pl.Series, wrong: pl.Series, fault: str) -> None:
    """Raise for the first row where `wrong` holds."""
    rows = wrong.arg_true()
    if len(rows):
        raise table.bad_value(column, rows[0], f"{_shown(values[rows[0]])} {fault}")


def _refuse_type(table: Table, column: str, values: pl.Series, fault: str) -> None:
    """Raise for the first value at all: its column is of a type that cannot be meant."""
    _refuse(table, column, values, values.is_not_null(), fault)


def _shown(value: object) -> str:
    if value is None or (isinstance(value, str) and not value):
        return "the cell"
    plain = value.to_list() if isinstance(value, pl.Series) else value
    text = f'"{plain}"' if isinstance(plain, str) else repr(plain)
    return text if len(text) <= 60 else text[:57] + "..."
