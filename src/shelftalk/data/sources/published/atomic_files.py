"""RecBole's atomic files: tab-separated, fields named and typed in the first line, no quotes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shelftalk.data.sources.layouts import Files
from shelftalk.data.sources.published.rows import Counts, cells, items_of, table_of
from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import TextForm, open_text, read_text
from shelftalk.errors import MissingColumn, UnreadableFile

INTERACTIONS = {"user_id": ("user_id",), "item_id": ("item_id",), "rating": ("rating",),
                "timestamp": ("timestamp",)}  # fmt: skip
ITEMS = {
    "item_id": ("item_id",),
    "title": ("title", "movie_title", "book_title", "name", "item_name", "business_name", "app_name"),
    "brand": ("brand", "store", "author", "authors", "developer", "artist"),
    "categories": ("categories", "category", "genres", "genre", "class", "tags"),
    "price": ("price",),
    "description": ("description", "abstract"),
}
"""Our column -> names that it has in RecBole's own conversions, the first that is there."""
TYPES = ("token", "token_seq", "float", "float_seq")


def interactions(files: Files, form: TextForm) -> Table:
    """The .inter file."""
    return _read(files["interactions"], form, INTERACTIONS, ("user_id", "item_id"))


def items(files: Files, form: TextForm) -> Table:
    """The .item file; the ids of the interactions where there is none."""
    if "items" not in files:
        return items_of(interactions(files, form))
    return _read(files["items"], form, ITEMS, ("item_id",))


def _read(path: Path, form: TextForm, columns: Mapping[str, Sequence[str]], needed: Sequence[str]) -> Table:
    def read(encoding: str) -> Table:
        fields = _header(path, encoding)
        names = [name for name, _ in fields]
        chosen = {
            ours: next((names.index(one) for one in theirs if one in names), None)
            for ours, theirs in columns.items()
        }
        missing = next((name for name in needed if chosen[name] is None), None)
        if missing is not None:
            raise MissingColumn(
                f'{path.name} has no field "{missing}" but {", ".join(names)}; rename the one that is meant.'
            )
        counts = Counts(path)
        table = table_of(path, tuple(columns), _rows(path, encoding, chosen, len(names)), counts)
        table.notes.extend(_unread(path, columns, names, chosen))
        return table

    return read_text(path, form, read)


def _header(path: Path, encoding: str) -> list[tuple[str, str]]:
    """(name, type) of each field. Raises UnreadableFile."""
    with open_text(path, encoding) as file:
        line = file.readline().rstrip("\r\n")
    fields = [field.rpartition(":") for field in line.split("\t")]
    wrong = next((field for field in fields if field[2] not in TYPES or not field[0]), None)
    if wrong is not None:
        raise UnreadableFile(
            f'{path.name}: the first line names fields as in "user_id:token", and "{"".join(wrong)}" has no '
            f"type of {', '.join(TYPES)}; correct the first line."
        )
    return [(name, kind) for name, _, kind in fields]


def _rows(
    path: Path, encoding: str, chosen: Mapping[str, int | None], number: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = cells(path, encoding, "\t", number)
    next(rows, None)
    positions = {name: position for name, position in chosen.items() if position is not None}
    for line, row in rows:
        yield line, {name: row[position] or None for name, position in positions.items()}


def _unread(
    path: Path, columns: Mapping[str, Sequence[str]], names: Sequence[str], chosen: Mapping[str, int | None]
) -> list[str]:
    """Which fields are read under another name, and which are not read."""
    used = {position for position in chosen.values() if position is not None}
    renamed = [
        f'"{names[position]}" as {ours}'
        for ours, position in chosen.items()
        if position is not None and names[position] != ours
    ]
    left = [name for position, name in enumerate(names) if position not in used]
    notes = [f"{path.name}: read {', '.join(renamed)}."] if renamed else []
    return notes + ([f"{path.name}: the fields {', '.join(left)} are not read."] if left else [])
