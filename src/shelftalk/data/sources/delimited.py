"""Comma- and tab-separated files, a header first; quotes as in RFC 4180. Every cell is read as text, "" as
missing.

Python's own reader is used, since it knows each record's line and refuses what would have to be guessed: a
quote that never closes, a record with more or fewer cells than the header. Where no separator is given, and
the header has our columns only with another one than the usual (a semicolon, as spreadsheet programs write
where the comma is the decimal sign), the file is read with that one, and this is noted.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import polars as pl

from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import DETECTED, TextForm, open_text, read_text
from shelftalk.data.sources.typed_columns import ROWS_AT_ONCE
from shelftalk.errors import UnreadableFile

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
LONGEST = 2**31 - 1
"""Characters in a cell: more than any file has, where the csv module would stop at 131,072."""
_LINE = "\x00line"  # no header holds this


def read_csv(path: Path, wanted: Collection[str], form: TextForm = DETECTED) -> Table:
    """A comma-separated file. Raises UnreadableFile."""
    return read_text(path, form, lambda encoding: _read(path, wanted, ",", encoding, form.separator))


def read_tsv(path: Path, wanted: Collection[str], form: TextForm = DETECTED) -> Table:
    """A tab-separated file; quotes mean the same as in a CSV. Raises UnreadableFile."""
    return read_text(path, form, lambda encoding: _read(path, wanted, "\t", encoding, form.separator))


def _read(path: Path, wanted: Collection[str], usual: str, encoding: str, given: str | None) -> Table:
    with _cells_of_any_length():
        separator = given or _separator(path, wanted, usual, encoding)
        with open_text(path, encoding) as file:
            records = _records(path, file, separator)
            names = _header(path, records, wanted)
            read = [name for name in names if name in wanted]
            frame = pl.concat(list(_frames(path, records, names, read)))
    table = Table(path, names, frame.drop(_LINE), frame[_LINE], "line", decimal_comma=separator == ";")
    if separator != usual and not given:
        table.notes.append(
            f"{path.name} is separated by {SEPARATORS[separator]}, not {SEPARATORS[usual]}, and was read so."
        )
    return table


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """The csv module's limit is global to the process, so it is restored."""
    before = csv.field_size_limit(LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _separator(path: Path, wanted: Collection[str], usual: str, encoding: str) -> str:
    """The character that splits the header into most of the wanted columns; else the usual one."""

    def columns(separator: str) -> int:
        with open_text(path, encoding) as file:
            try:
                _, names = next(_records(path, file, separator), (0, []))
            except UnreadableFile:  # quotes that this separator would break
                return 0
            return sum(name in wanted for name in names)

    return max([usual, *SEPARATORS], key=columns)


def _records(path: Path, file: TextIO, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line on which it begins, counted from 1; blank lines are skipped."""
    reader = csv.reader(file, delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            fault = f"quotes are broken ({error})"
            if "end of data" in str(error):
                fault = "a quote is opened and never closed"
            remedy = 'correct the quotes: put a cell that holds a quote in quotes, with "" for each within.'
            raise UnreadableFile(f"{path.name}, line {line}: {fault}; {remedy}") from error
        if record is None:
            return
        if record:
            yield line, record


def _header(path: Path, records: Iterator[tuple[int, list[str]]], wanted: Collection[str]) -> list[str]:
    _, names = next(records, (0, []))
    if not names:
        raise UnreadableFile(f"{path.name} is empty; give a file with a header line and at least one row.")
    if names[0].startswith("sep="):
        raise UnreadableFile(
            f'{path.name}: the first line, "{names[0]}", is a hint to spreadsheet programs; remove that line.'
        )
    twice = next((name for name in names if name in wanted and names.count(name) > 1), None)
    if twice is not None:
        raise UnreadableFile(f'{path.name} has two columns named "{twice}"; rename one of them.')
    return names


def _frames(
    path: Path, records: Iterator[tuple[int, list[str]]], names: list[str], wanted: list[str]
) -> Iterator[pl.DataFrame]:
    """The records in frames of ROWS_AT_ONCE; at least one frame, which may have no row."""
    positions = [names.index(name) for name in wanted]
    schema = dict.fromkeys(wanted, pl.String) | {_LINE: pl.Int64}
    rows: list[list[str | int | None]] = []
    for line, record in records:
        if len(record) != len(names):
            raise UnreadableFile(
                f"{path.name}, line {line}: {len(record)} cells where the header has {len(names)}; "
                "quote cells that hold the separator, and complete the row."
            )
        rows.append([record[position] or None for position in positions] + [line])
        if len(rows) == ROWS_AT_ONCE:
            yield pl.DataFrame(rows, schema=schema, orient="row")
            rows = []
    yield pl.DataFrame(rows, schema=schema, orient="row")
