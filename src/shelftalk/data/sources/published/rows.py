"""What the readers of published data sets share: rows of separated cells, and counts of what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from shelftalk.data.sources.table import Table, shown
from shelftalk.data.sources.text_files import open_text
from shelftalk.data.sources.typed_columns import Columns
from shelftalk.errors import UnreadableFile

SET, PATH, PATHS = " ; ", " > ", " | "
"""What joins names without an order, the levels of a path of categories, and several paths."""


@dataclass
class Counts:
    """How many rows of a file were left out, or read otherwise than they stand there: reason -> number, and
    the first of them."""

    path: Path
    rows: int = 0
    _counted: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, reason: str, line: int, example: object = None) -> None:
        """One row; `reason` continues "3 of 10 rows"."""
        count, first = self._counted.get(reason, (0, ""))
        cell = f"{shown(example)} in line {line}" if example is not None else f"line {line}"
        self._counted[reason] = (count + 1, first or cell)

    def notes(self) -> list[str]:
        """A sentence for each reason."""
        return [
            f"{self.path.name}: {count:,} of {self.rows:,} rows {reason}, for instance {first}."
            for reason, (count, first) in self._counted.items()
        ]


def cells(
    path: Path, encoding: str, separator: str, number: int, names: Sequence[str] = ()
) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of a file without quotes: what no separator divides belongs to the cell. `number` of
    cells in each row, which the fields `names` are. Raises UnreadableFile, naming the line."""
    with open_text(path, encoding) as file:
        for line, text in enumerate(file, start=1):
            text = text.rstrip("\r\n")
            if not text.strip():
                continue
            row = text.split(separator)
            if len(row) != number:
                fields = f" ({', '.join(names)})" if names else ""
                raise UnreadableFile(
                    f"{path.name}, line {line}: {len(row)} cells where each row has {number}{fields}; "
                    "correct the line, or copy the file again."
                )
            yield line, row


def table_of(
    path: Path, names: Sequence[str], rows: Iterable[tuple[int, Mapping[str, Any]]], counts: Counts
) -> Table:
    """Rows by our column names as a Table; a column in which nothing is filled in is left out."""
    columns = Columns(names)
    for line, row in rows:
        columns.add(line, row)
    frame, lines = columns.finish()
    filled = [name for name in names if frame[name].null_count() < len(frame) or name.endswith("_id")]
    frame = frame.select(filled).with_columns(pl.col(pl.Null).cast(pl.String))
    return Table(path, filled, frame, lines, "line", notes=counts.notes())


def items_of(table: Table) -> Table:
    """The items of interactions, by id alone: the catalogue of a data set that has no file of one."""
    first = table.frame["item_id"].is_first_distinct()
    frame = table.frame.filter(first).select("item_id")
    note = f"{table.path.name}: there is no file of items, so {len(frame):,} of them are known by id alone."
    return Table(table.path, ["item_id"], frame, table.row_numbers.filter(first), table.unit, notes=[note])
