"""What every reader returns, and the checks that turn its columns into the types of a Dataset.

A reader is a function `read(path, wanted, form) -> Table`. It raises UnreadableFile where the file is not of
its format; what a cell may hold is decided here, once for all formats, so that each format gives the same
message for the same fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Context, Decimal
from pathlib import Path

import polars as pl

from shelftalk.data.sources.lookalikes import difference, is_null_word, lookalike_ids
from shelftalk.errors import BadValue

LARGEST = 2.0**63
BILLION = 10**9
SHORT_FLOATS = (pl.Float16, pl.Float32)
"""Read by their shortest text: a 32-bit 4.1 is meant as 4.1, not as 4.099999904632568."""
NUMERIC = "write one such as 4.5, or leave it empty."
WHOLE = 'write one in every row, or order by times instead: data.order = "timestamp".'
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9})?", re.ASCII)
PRECISE = Context(prec=60, rounding=ROUND_FLOOR)
KEPT_DIGITS = 15
"""Decimal digits that every 64-bit float keeps; of more, some numbers lose the last ones."""


@dataclass(frozen=True, eq=False)
class Table:
    """A file as read, with the values that it holds.

    `names` are all columns of the file; `frame` has those that were wanted, n rows; a column of mixed types
    is pl.Object. `row_numbers` [n] int64 is where a row begins in the file, counted from 1 in `unit`s (a
    CSV's header is line 1). `decimal_comma`: numbers may be written 4,5. `notes` collects a sentence for
    each kind of value that is not what it looks like.
    """

    path: Path
    names: list[str]
    frame: pl.DataFrame
    row_numbers: pl.Series
    unit: str
    decimal_comma: bool = False
    notes: list[str] = field(default_factory=list)

    def note(self, column: str, which: pl.Series, what: str, example: str = "") -> None:
        """Note `what` of the cells of `column` where `which` [n] is true: their number, the first with its
        row, and `example`, how that one was read. Nothing where it is true nowhere."""
        rows = which.arg_true()
        if len(rows):
            cell = f"{shown(self.frame[column][rows[0]])} in {self.unit} {self.row_numbers[rows[0]]}{example}"
            of = f"{len(rows):,} of {len(which):,} values"
            self.notes.append(f'{self.path.name}, column "{column}": {of} {what}, for instance {cell}.')

    def bad_value(self, column: str, row: int, fault: str) -> BadValue:
        """The error for the cell at `row` (counted from 0) of `column`; `fault` ends in the remedy."""
        return BadValue(f'{self.path.name}, {self.unit} {self.row_numbers[row]}, column "{column}": {fault}')


def identifiers(table: Table, column: str) -> pl.Series:
    """[n] String, none missing. Integers become text; floats are refused: 3.0 and 3 would be two ids."""
    values = one_type(table, column)
    if values.dtype != pl.String and not values.dtype.is_integer():
        _refuse_type(table, column, values, "is not an id; store ids as text or integers.")
    ids = values.cast(pl.String)
    blank = ids.is_null() | (ids.str.strip_chars() == "")
    refuse(table, column, blank, "has no id; fill it in or remove the row.")
    _note_null_words(table, column, ids)
    _note_lookalikes(table, column, ids)
    return ids


def texts(table: Table, column: str) -> pl.Series:
    """[n] String, null where missing. Any text is legal and is kept unchanged."""
    values = one_type(table, column)
    if values.dtype != pl.String and not values.dtype.is_integer():
        _refuse_type(
            table, column, values, "is not text; store the column as text (join several values into one)."
        )
    _note_null_words(table, column, values)
    return values.cast(pl.String)


def numbers(table: Table, column: str) -> pl.Series:
    """[n] Float64, null where missing; not-a-number and infinity are refused, as numbers and as text.

    Digits beyond those of a 64-bit float, and decimal commas, are noted.
    """
    values = blank_as_null(one_type(table, column))
    if values.dtype != pl.String and not values.dtype.is_numeric():
        _refuse_type(table, column, values, f"is not a number; {NUMERIC}")
    if values.dtype in SHORT_FLOATS or values.dtype.is_decimal():
        values = values.cast(pl.String)
    if table.decimal_comma and values.dtype == pl.String:
        values = _with_points(table, column, values)
    parsed = values.cast(pl.Float64, strict=False)
    wrong = values.is_not_null() & ~parsed.is_finite().fill_null(False)
    refuse(table, column, wrong, f"is not a number; {NUMERIC}")
    _note_lost_digits(table, column, values, parsed)
    return parsed


def whole_numbers(table: Table, column: str) -> pl.Series:
    """[n] Int64, null where missing; 5.0 is a whole number, 5.5 is refused."""
    values = blank_as_null(one_type(table, column))
    if values.dtype != pl.String and not values.dtype.is_numeric():
        _refuse_type(table, column, values, f"is not a whole number; {WHOLE}")
    exact = exact_numbers(values)
    wrong = values.is_not_null() & (exact["whole"].is_null() | (exact["billionths"] != 0) | exact["cut"])
    refuse(table, column, wrong, f"is not a whole number of 64 bits; {WHOLE}")
    return exact["whole"].alias(column)


def exact_numbers(values: pl.Series) -> pl.DataFrame:
    """[n] `whole` Int64, the number rounded down, null where it is no number or beyond 64 bits;
    `billionths` Int64, the rest; `cut` Boolean, whether it has digits beyond these: 1.5 is 1 and 500,000,000.
    `values` are text or numbers of any type; they are not converted by way of a float, which is inexact
    beyond 2**53."""
    if values.dtype.is_float():
        plain = values.is_finite() & (values == values.floor()) & (values.abs() < LARGEST)
        whole = values.set(~plain.fill_null(False), None).cast(pl.Int64)
    elif values.dtype.is_integer():
        return _exact(values.cast(pl.Int64, strict=False))
    else:
        whole = values.cast(pl.String).cast(pl.Int64, strict=False)
    rest = (values.is_not_null() & whole.is_null()).arg_true()
    if not len(rest):
        return _exact(whole)
    parsed = [_exact_number(text) or (None, None, None) for text in values.gather(rest).cast(pl.String)]
    frame = _exact(whole)
    return frame.with_columns(
        frame[name].scatter(rest, [one[position] for one in parsed])
        for position, name in enumerate(frame.columns)
    )


def _exact(whole: pl.Series) -> pl.DataFrame:
    """The frame of `exact_numbers` for whole numbers."""
    return pl.DataFrame({"whole": whole}).with_columns(
        billionths=pl.when(pl.col("whole").is_not_null()).then(pl.lit(0, pl.Int64)), cut=pl.lit(False)
    )


def _exact_number(text: str) -> tuple[int, int, bool] | None:
    if not NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    if number and number.adjusted() > 20:
        return None
    if number and number.adjusted() < -100:  # beyond the precision of PRECISE; only the sign is left
        return (0, 0, True) if number > 0 else (-1, BILLION - 1, True)
    scaled = PRECISE.multiply(number, BILLION)
    units = int(scaled.to_integral_value(ROUND_FLOOR))
    whole, billionths = divmod(units, BILLION)
    return (whole, billionths, units != scaled) if -LARGEST <= whole < LARGEST else None


def one_type(table: Table, column: str) -> pl.Series:
    """The column in one type: categories and empty columns become text, mixed types are refused."""
    values = table.frame[column]
    if values.dtype == pl.Object:
        raise _mixed(table, column, values.to_list())
    return values.cast(pl.String) if values.dtype in (pl.Categorical, pl.Enum, pl.Null) else values


def _mixed(table: Table, column: str, values: list[object]) -> BadValue:
    """The error for a column of mixed types, or of one that is neither text nor a number of 64 bits."""
    held = [row for row, value in enumerate(values) if value is not None]
    nan = next((row for row in held if values[row] != values[row]), None)
    if nan is not None and any(isinstance(value, str) for value in values):
        return table.bad_value(column, nan, "NaN stands among texts; write null where there is no text.")
    other = [row for row in held if type(values[row]) is not type(values[held[0]])]
    if other:
        remedy = "is of another type than the rows above; give the column one type, text or numbers."
        return table.bad_value(column, other[0], f"{shown(values[other[0]])} {remedy}")
    remedy = (
        "is neither text nor a number that 64 bits can hold; store the column as text, or as such numbers."
    )
    return table.bad_value(column, held[0], f"{shown(values[held[0]])} {remedy}")


def blank_as_null(values: pl.Series) -> pl.Series:
    """Text without the space around it, null where nothing is left; other types as they are."""
    if values.dtype != pl.String:
        return values
    values = values.str.strip_chars()
    return values.set(values == "", None)


def _with_points(table: Table, column: str, values: pl.Series) -> pl.Series:
    """Decimal commas as points; refuses a column that has both, where commas may separate thousands."""
    commas = values.str.contains(",", literal=True).fill_null(False)
    both = values.str.contains(".", literal=True).fill_null(False)
    if not commas.any():
        return values
    refuse(table, column, both, "has a decimal point where other rows have commas; write all numbers alike.")
    table.note(
        column, commas, "have a decimal comma", f", read as {values.filter(commas)[0].replace(',', '.')}"
    )
    return values.str.replace(",", ".", literal=True)


def _note_lost_digits(table: Table, column: str, values: pl.Series, parsed: pl.Series) -> None:
    """Note the numbers that differ from what was written, such as whole ones beyond 2**53."""
    if values.dtype.is_float():
        return
    written = values.cast(pl.String)
    digits = written.str.replace_all(r"[eE].*|[^0-9]", "").str.strip_chars_start("0").str.len_chars()
    suspects = ((digits > KEPT_DIGITS) | ((digits > 0) & (parsed == 0))).fill_null(False).arg_true()
    lost = [row for row in suspects if not _keeps(written[row], parsed[row])]
    if lost:
        which = pl.repeat(False, len(values), dtype=pl.Boolean, eager=True).scatter(lost, True)
        table.note(
            column, which, "have more digits than a 64-bit number keeps", f", read as {parsed[lost[0]]!r}"
        )


def _keeps(written: str, number: float) -> bool:
    """Whether the float is the written number, or the written number is a usual text of the float."""
    return number != 0 and Decimal(written) in (
        Decimal(number),
        Decimal(repr(number)),
        Decimal(f"{number:.17g}"),
    )


def _note_null_words(table: Table, column: str, values: pl.Series) -> None:
    if values.dtype == pl.String:
        words = 'are a word for "nothing", as missing values become in text, and are kept'
        table.note(column, is_null_word(values), f"{words}; leave such cells empty if nothing is meant")


def _note_lookalikes(table: Table, column: str, ids: pl.Series) -> None:
    pairs = lookalike_ids(ids)
    if pairs:
        one, other = pairs[0]
        how = f"{shown(one)} and {shown(other)}: {difference(one, other)}"
        count = f"{len(pairs):,} ids look equal to another and stay different ones"
        table.notes.append(f'{table.path.name}, column "{column}": {count}, for instance {how}.')


def refuse(table: Table, column: str, wrong: pl.Series, fault: str) -> None:
    """Raise BadValue for the first row where `wrong` [n] holds, quoting its cell; `fault` has the remedy."""
    rows = wrong.arg_true()
    if len(rows):
        raise table.bad_value(column, rows[0], f"{shown(table.frame[column][rows[0]])} {fault}")


def _refuse_type(table: Table, column: str, values: pl.Series, fault: str) -> None:
    """Raise BadValue for the first value: the whole column is of a wrong type."""
    refuse(table, column, values.is_not_null(), fault)


def shown(value: object) -> str:
    """A cell as messages quote it, cut to 60 characters."""
    if value is None or (isinstance(value, str) and not value):
        return "the cell"
    plain = value.to_list() if isinstance(value, pl.Series) else value
    text = (
        f'"{plain}"' if isinstance(plain, str) else str(plain) if isinstance(plain, Decimal) else repr(plain)
    )
    return text if len(text) <= 60 else text[:57] + "..."
