"""Times as whole Unix seconds and nanoseconds, so that the order within a second is that of the source.

Legend: n rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from shelftalk.data.dataset import TIME
from shelftalk.data.sources.table import SHORT_FLOATS, Table, blank_as_null, exact_numbers, one_type, refuse

SECOND = 10**9
"""Nanoseconds."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
REMEDY = (
    "write every time as Unix seconds (1406110500 or 1406110500.25) or in ISO 8601 (2014-07-23T10:15:00.25Z)."
)
PER_SECOND = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
BELOW = 10**11
"""Unix seconds below this are before the year 5138; a larger number counts a smaller unit, each a thousand
times as large."""
PLAUSIBLE = (3 * 10**8, 5 * 10**9)
"""Unix seconds from 1979 to 2128: what times of users are if they are seconds at all."""
ISO = re.compile(r"([\dW-]+[^\d.,][\d:]+)[.,](\d+)(.*)", re.ASCII)
"""Date and time, the digits after the seconds, the zone: Python's own reader keeps six digits at most."""
ZONE = re.compile(r"\s*(?:Z|UTC|GMT)$", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time that was text in ISO 8601. `cut`: it had more than nine digits after the second."""

    second: int
    nanosecond: int
    zoned: bool
    cut: bool


def times(table: Table, column: str) -> pl.Series:
    """[n] struct of TIME, Int64 each, null where missing.

    Accepts Unix time and dates. Numbers (integers, decimals, floats, or text of these) are Unix seconds, or
    milli-, micro- or nanoseconds, decided by the size of the largest in the column; or dates without dashes
    (20140723) where all of them are. Dates are columns of a date or datetime type and text in ISO 8601,
    converted to UTC; without a zone they are taken as UTC. A column holds numbers or dates, not both. Digits
    beyond nanoseconds are cut off, and noted.
    """
    values = blank_as_null(one_type(table, column))
    if values.dtype in (pl.Date, pl.Datetime):
        return _moments_of_dates(column, values)
    if values.dtype != pl.String and not values.dtype.is_numeric():
        refuse(table, column, values.is_not_null(), f"is not a time; {REMEDY}")
    first = values.drop_nulls().head(1)
    if values.dtype == pl.String and exact_numbers(first)["whole"].null_count():
        return _moments_of_texts(table, column, values)
    return _moments_of_numbers(table, column, values)


def _struct(column: str, seconds: pl.Series, nanoseconds: pl.Series) -> pl.Series:
    return pl.DataFrame([seconds.alias(TIME[0]), nanoseconds.alias(TIME[1])]).to_struct(column)


def _moments_of_dates(column: str, values: pl.Series) -> pl.Series:
    """Columns of a date or datetime type hold whole units since the epoch, in UTC."""
    if values.dtype == pl.Date:
        seconds = values.to_physical().cast(pl.Int64) * 86_400
        return _struct(column, seconds, seconds * 0)
    per_second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[values.dtype.time_unit]  # type: ignore[attr-defined]
    units = values.to_physical()
    seconds = units // per_second
    return _struct(column, seconds, (units - seconds * per_second) * (SECOND // per_second))


def _moments_of_texts(table: Table, column: str, values: pl.Series) -> pl.Series:
    """Text in ISO 8601; refuses the first that is not."""
    moments = {text: _moment(text) for text in values.drop_nulls().unique()}
    wrong = pl.Series([text is not None and moments[text] is None for text in values], dtype=pl.Boolean)
    if wrong.any():
        like = "is not an ISO 8601 date as in the rows above; write all times alike."
        first = wrong.arg_true()[0] == values.is_not_null().arg_true()[0]
        refuse(table, column, wrong, f"is not a time; {REMEDY}" if first else like)
    rows = [None if text is None else moments[text] for text in values]
    _note_zones(table, column, values, rows)
    _note_cut(table, column, pl.Series([row is not None and row.cut for row in rows], dtype=pl.Boolean))
    seconds = pl.Series([row and row.second for row in rows], dtype=pl.Int64)
    return _struct(column, seconds, pl.Series([row and row.nanosecond for row in rows], dtype=pl.Int64))


def _moment(text: str) -> Moment | None:
    """None where the text is not ISO 8601. Zones may also be written as databases do: " UTC", " +02:00"."""
    text = ZONE.sub("+00:00", text.strip())
    text = re.sub(r"\s+([+-]\d\d(?::?\d\d)?)$", r"\1", text)
    parts = ISO.fullmatch(text)
    digits = parts[2] if parts else ""
    try:
        moment = datetime.fromisoformat(parts[1] + parts[3] if parts else text)
        since = moment.replace(tzinfo=moment.tzinfo or UTC) - EPOCH
    except (ValueError, OverflowError):
        return None
    nanosecond = since.microseconds * 1000 + int(digits[:9].ljust(9, "0"))
    return Moment(
        since // timedelta(seconds=1), nanosecond, moment.tzinfo is not None, bool(digits[9:].strip("0"))
    )


def _note_zones(table: Table, column: str, values: pl.Series, rows: list[Moment | None]) -> None:
    """Where only some times name a zone, the others may be of another one."""
    without = pl.Series([row is not None and not row.zoned for row in rows], dtype=pl.Boolean)
    if without.sum() < values.count():
        table.note(column, without, "name no zone where others do, and are taken as UTC")


def _note_cut(table: Table, column: str, cut: pl.Series) -> None:
    table.note(column, cut, "have digits beyond nanoseconds, which are cut off")


def _moments_of_numbers(table: Table, column: str, values: pl.Series) -> pl.Series:
    """Unix time in the unit of `_unit`; refuses the first value that is no number."""
    exact = exact_numbers(values)
    whole, billionths = exact["whole"], exact["billionths"]
    wrong = values.is_not_null() & whole.is_null()
    if values.dtype == pl.String:
        refuse(table, column, wrong, f"is not a number as in the rows above; {REMEDY}")
    refuse(table, column, wrong, f"is not a time; {REMEDY}")
    if (dates := _dates_without_dashes(whole, billionths)) is not None:
        first = f", read as {dates.drop_nulls()[0]}"
        table.note(
            column, whole.is_not_null(), "are whole numbers that are taken as dates without dashes", first
        )
        return _moments_of_dates(column, dates)
    unit = _unit(whole)
    per_second = PER_SECOND[unit]
    if per_second > 1:
        _refuse_two_units(table, column, whole, unit)
        first = _utc(whole.drop_nulls()[0], per_second)
        what = f"are taken as Unix {unit}, by the size of the largest"
        table.note(column, whole.is_not_null(), what, f", read as {first}")
    if values.dtype in SHORT_FLOATS and not (whole.abs() < 2**24).all():
        table.note(
            column, whole.is_not_null(), "are 32-bit floats, which hold a time of today to some 128 seconds"
        )
    seconds = whole // per_second
    nanoseconds = (whole - seconds * per_second) * (SECOND // per_second) + billionths // per_second
    cut = exact["cut"].fill_null(False) | (billionths % per_second != 0).fill_null(False)
    _note_cut(table, column, cut)
    return _struct(column, seconds, nanoseconds)


def _utc(whole: int, per_second: int) -> str:
    try:
        return f"{EPOCH + timedelta(seconds=whole / per_second):%Y-%m-%dT%H:%M:%SZ}"
    except OverflowError:
        return f"{whole / per_second:.0f} Unix seconds"


def _unit(whole: pl.Series) -> str:
    """The smallest of the units in which the largest of the numbers is below BELOW seconds."""
    largest = max(abs(int(whole.min() or 0)), abs(int(whole.max() or 0)))  # type: ignore[arg-type]
    return next(
        (unit for unit, per_second in PER_SECOND.items() if largest < BELOW * per_second), "nanoseconds"
    )


def _refuse_two_units(table: Table, column: str, whole: pl.Series, unit: str) -> None:
    """Raise for a number that is a plausible time in a larger unit than the column's: in the column's unit it
    would be a time of 1970."""
    for other, per_second in PER_SECOND.items():
        if per_second < PER_SECOND[unit]:
            low, high = (bound * per_second for bound in PLAUSIBLE)
            mixed = f"looks like Unix {other} where other rows hold Unix {unit}; write all times in one unit."
            refuse(table, column, whole.is_between(low, high).fill_null(False), mixed)


def _dates_without_dashes(whole: pl.Series, billionths: pl.Series) -> pl.Series | None:
    """The numbers as dates where all are like 20140723, or as datetimes where all are like 20140723101500;
    else None."""
    lowest, highest = whole.min(), whole.max()
    if lowest is None or (billionths != 0).any():
        return None
    for low, high, form in (
        (19_000_101, 21_001_231, "%Y%m%d"),
        (19_000_101_000_000, 21_001_231_235_959, "%Y%m%d%H%M%S"),
    ):
        if low <= lowest and highest <= high:  # type: ignore[operator]
            kind = pl.Datetime if "%H" in form else pl.Date
            dates = whole.cast(pl.String).str.strptime(kind, form, strict=False)
            return dates if dates.null_count() == whole.null_count() else None
    return None
