"""Amazon reviews of 2014, 2018 and 2023 as J. McAuley's group publishes them.

2014: reviews as JSON lines, metadata in Python's notation, or ratings alone as CSV (user, item, rating,
time). 2018: both as JSON lines; ratings alone as CSV (item, user, rating, time). 2023: JSON lines or Parquet,
items by `parent_asin`, times in milliseconds; ratings alone as CSV with a header.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shelftalk.data.dataset import ITEM_COLUMNS
from shelftalk.data.sources.delimited import read_csv
from shelftalk.data.sources.json_lines import Record
from shelftalk.data.sources.layouts import Files
from shelftalk.data.sources.parquet import read as read_parquet
from shelftalk.data.sources.published.objects import first_object, price_of, read_objects, text_of
from shelftalk.data.sources.published.rows import PATH, PATHS, Counts, cells, items_of, table_of
from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import TextForm, ending_of, open_binary, read_text
from shelftalk.errors import UnreadableFile

RATED = ("user_id", "item_id", "rating", "timestamp")
REVIEW = {"reviewerID": "user_id", "asin": "item_id", "overall": "rating", "unixReviewTime": "timestamp"}
REVIEW_2023 = {
    "user_id": "user_id", "parent_asin": "item_id", "rating": "rating", "timestamp": "timestamp",
}  # fmt: skip
META = ("asin", "title", "brand", "category", "categories", "price", "description")
META_2023 = ("parent_asin", "title", "store", "categories", "price", "description")
ASIN = 10
"""Characters of an item's id; ids of users are longer."""
SCRIPT = "getTime"
"""In a title of 2018 it is the script of a page that was taken for one."""


def is_2014(files: Files) -> bool:
    """Whether the interactions are those of 2014: reviews without `verified`, or ratings that begin with the
    user."""
    return _kind(files["interactions"]) == "2014"


def is_2018(files: Files) -> bool:
    """Whether the interactions are those of 2018: reviews with `verified`, or ratings that begin with the
    item."""
    return _kind(files["interactions"]) == "2018"


def is_2023(files: Files) -> bool:
    """Whether the interactions are those of 2023, whose items are a `parent_asin`."""
    return _kind(files["interactions"]) == "2023"


def _kind(path: Path) -> str | None:
    if ending_of(path) == ".parquet":
        return "2023" if "parent_asin" in read_parquet(path, ()).names else None
    if ending_of(path) == ".csv":
        row = _first_line(path)
        if "parent_asin" in row:
            return "2023"
        if len(row) != len(RATED):
            return None
        return "2014" if len(row[1]) == ASIN else "2018" if len(row[0]) == ASIN else None
    first = first_object(path)
    if "parent_asin" in first:
        return "2023"
    if not {"reviewerID", "asin"} <= set(first):
        return None
    return "2018" if "verified" in first else "2014"


def _first_line(path: Path) -> list[str]:
    with open_binary(path) as file:
        return file.readline(1000).decode("utf-8-sig", "replace").strip().split(",")


def interactions(files: Files, form: TextForm) -> Table:
    """Reviews or ratings of 2014 and 2018."""
    path = files["interactions"]
    if ending_of(path) == ".csv":
        return read_text(path, form, lambda encoding: _ratings(path, encoding))
    return read_objects(path, form, RATED, _review, tuple(REVIEW))


def interactions_2023(files: Files, form: TextForm) -> Table:
    """Reviews or ratings of 2023."""
    path = files["interactions"]
    if ending_of(path) == ".csv":
        return _renamed(read_csv(path, REVIEW_2023, form))
    if ending_of(path) == ".parquet":
        return _renamed(read_parquet(path, REVIEW_2023))

    def convert(record: Record, counts: Counts, line: int) -> dict[str, Any]:
        return {ours: record.get(theirs) for theirs, ours in REVIEW_2023.items()}

    return read_objects(path, form, RATED, convert, tuple(REVIEW_2023))


def items(files: Files, form: TextForm) -> Table:
    """Metadata of 2014 and 2018; the ids of the interactions where there is none."""
    if "items" not in files:
        return items_of(interactions(files, form))
    return read_objects(files["items"], form, tuple(ITEM_COLUMNS), _item, META)


def items_2023(files: Files, form: TextForm) -> Table:
    """Metadata of 2023; the ids of the interactions where there is none."""
    if "items" not in files:
        return items_of(interactions_2023(files, form))
    path = files["items"]
    if ending_of(path) == ".parquet":
        return _from_parquet(path)
    return read_objects(path, form, tuple(ITEM_COLUMNS), _item_2023, META_2023)


def _review(record: Record, counts: Counts, line: int) -> dict[str, Any]:
    return {ours: record.get(theirs) for theirs, ours in REVIEW.items()}


def _ratings(path: Path, encoding: str) -> Table:
    """Four cells without a header; the first line shows whether the user or the item is the first."""
    first = _first_line(path)
    user_first = len(first) != len(RATED) or len(first[1]) == ASIN
    names = RATED if user_first else ("item_id", "user_id", *RATED[2:])
    rows = cells(path, encoding, ",", len(RATED), names)
    return table_of(
        path, RATED, ((line, dict(zip(names, row, strict=True))) for line, row in rows), Counts(path)
    )


def _item(record: Record, counts: Counts, line: int) -> dict[str, Any]:
    title = text_of(record.get("title"))
    if title is not None and SCRIPT in title:
        counts.add("have the script of a page as their title, and are read as without one", line)
        title = None
    return {
        "item_id": record.get("asin"),
        "title": title,
        "brand": text_of(record.get("brand")),
        "categories": _categories(record.get("categories", record.get("category"))),
        "price": price_of(record.get("price"), counts, line),
        "description": text_of(record.get("description")),
    }


def _item_2023(record: Record, counts: Counts, line: int) -> dict[str, Any]:
    price = record.get("price")
    return {
        "item_id": record.get("parent_asin"),
        "title": text_of(record.get("title")),
        "brand": text_of(record.get("store")),
        "categories": _categories(record.get("categories")),
        "price": price_of(None if price == "None" else price, counts, line),
        "description": text_of(record.get("description")),
    }


def _categories(value: Any) -> str | None:
    """Paths of categories as one text: 2014 has a list of paths, later ones a path."""
    paths = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    return PATHS.join(filter(None, (text_of(path, PATH) for path in paths))) or None


def _renamed(table: Table) -> Table:
    """The table with our names of its columns."""
    names = [REVIEW_2023.get(name, name) for name in table.names]
    frame = table.frame.rename(
        {theirs: ours for theirs, ours in REVIEW_2023.items() if theirs in table.frame}
    )
    return Table(table.path, names, frame, table.row_numbers, table.unit, table.decimal_comma, table.notes)


def _from_parquet(path: Path) -> Table:
    """Metadata as the hub has it: lists of texts, and prices as text."""
    table = read_parquet(path, META_2023)
    if "parent_asin" not in table.names:
        raise UnreadableFile(
            f'{path.name} has no column "parent_asin"; give the metadata of the reviews of 2023.'
        )
    counts = Counts(path)

    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        for number, row in enumerate(table.frame.iter_rows(named=True), start=1):
            counts.rows += 1
            yield number, _item_2023(row, counts, number)

    read = table_of(path, tuple(ITEM_COLUMNS), rows(), counts)
    return Table(path, read.names, read.frame, table.row_numbers, "row", notes=read.notes)
