"""Comma- and tab-separated files, UTF-8, a header first; quotes as in RFC 4180. Every cell is read as text, "" as missing.

Python's own reader is used, since it knows each record's line and refuses what is open to guessing: a quote that never
closes, a record with more or fewer cells than the header.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from pathlib import Path

import polars as pl

from shelftalk.data.sources.table import Table
from shelftalk.errors import UnreadableFile

ROWS_AT_ONCE = 100_000  # lists of text are large; a frame of them is small


def read_csv(path: Path, wanted: Collection[str]) -> Table:
    """A comma-separated file. Raises UnreadableFile."""
    return _read(path, wanted, ",")


def read_tsv(path: Path, wanted: Collection[str]) -> Table:
    """A tab-separated file; quotes mean the same as in a CSV. Raises UnreadableFile."""
    return _read(path, wanted, "\t")


def _read(path: Path, wanted: Collection[str], separator: str) -> Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheet programs write a byte order mark
            records = csv.reader(file, delimiter=separator, strict=True)
            names = _header(path, records)
            frame = pl.concat(list(_frames(path, records, names, [name for name in names if name in wanted])))
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"{path.name} is not UTF-8 text ({error.reason}); save it in UTF-8.") from error
    except csv.Error as error:
        raise UnreadableFile(f"{path.name}, line {records.line_num}: {error}; mend the quotes or the file's end.") from error
    except OSError as error:
        raise UnreadableFile(f"{path.name} cannot be read ({error.strerror}); check the file and its permissions.") from error
    return Table(path, names, frame.drop(_LINE), frame[_LINE], "line")


_LINE = "\x00line"  # no header holds this


def _header(path: Path, records: Iterator[list[str]]) -> list[str]:
    names = next(records, [])
    if not names:
        raise UnreadableFile(f"{path.name} is empty; give a file with a header line and at least one row.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UnreadableFile(f'{path.name} has two columns named "{twice}"; rename one of them.')
    return names


def _frames(path: Path, records: Iterator[list[str]], names: list[str], wanted: list[str]) -> Iterator[pl.DataFrame]:
    """The records in frames of ROWS_AT_ONCE; at least one frame, which may have no row."""
    places = [names.index(name) for name in wanted]
    schema = dict.fromkeys(wanted, pl.String) | {_LINE: pl.Int64}
    rows: list[list[str | int | None]] = []
    for line, record in _numbered(path, records, len(names)):
        rows.append([record[place] or None for place in places] + [line])
        if len(rows) == ROWS_AT_ONCE:
            yield pl.DataFrame(rows, schema=schema, orient="row")
            rows = []
    yield pl.DataFrame(rows, schema=schema, orient="row")


def _numbered(path: Path, records: Iterator[list[str]], width: int) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line on which it begins; blank lines are passed over."""
    line = 2
    for record in records:
        if record and len(record) != width:
            raise UnreadableFile(
                f"{path.name}, line {line}: {len(record)} cells where the header has {width}; "
                "quote cells that hold the separator, and complete the row."
            )
        if record:
            yield line, record
        line = records.line_num + 1  # type: ignore[attr-defined]  # csv's reader type is private
