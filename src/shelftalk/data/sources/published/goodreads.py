"""Goodreads, the UCSD Book Graph: interactions or reviews, books and authors as JSON lines."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

from shelftalk.data.dataset import ITEM_COLUMNS
from shelftalk.data.sources.json_lines import Record
from shelftalk.data.sources.layouts import Files
from shelftalk.data.sources.published.objects import read_objects, text_of
from shelftalk.data.sources.published.rows import SET, Counts, items_of
from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import TextForm
from shelftalk.errors import BadValue

SHELVED = ("user_id", "item_id", "rating", "timestamp")
READS = ("user_id", "book_id", "rating", "date_added")
BOOK = ("book_id", "title", "authors", "popular_shelves", "description", "publisher")
WRITTEN = "%a %b %d %H:%M:%S %z %Y"
"""Times as in "Sun Jul 30 07:44:10 -0700 2017"."""
MOST_SHELVES = 5


def interactions(files: Files, form: TextForm) -> Table:
    """A book on a user's shelf, by the time it was added; a rating of 0 is none."""
    path = files["interactions"]

    def convert(record: Record, counts: Counts, line: int) -> dict[str, Any]:
        rating = record.get("rating")
        if rating == 0:
            counts.add("have the rating 0, which Goodreads writes where there is none", line)
        return {
            "user_id": record.get("user_id"),
            "item_id": record.get("book_id"),
            "rating": None if rating == 0 else rating,
            "timestamp": _second(record.get("date_added"), path.name, line),
        }

    return read_objects(path, form, SHELVED, convert, READS)


def items(files: Files, form: TextForm) -> Table:
    """goodreads_books*.json, with the names of authors where their file is there, else the publisher."""
    if "items" not in files:
        return items_of(interactions(files, form))
    authors: dict[str, str] = {}
    if "authors" in files:
        table = read_objects(files["authors"], form, ("item_id", "title"), _author, ("author_id", "name"))
        if "title" in table.frame:
            authors = dict(table.frame.select("item_id", "title").drop_nulls().rows())
    return read_objects(files["items"], form, tuple(ITEM_COLUMNS), partial(_book, authors), BOOK)


def _author(record: Record, counts: Counts, line: int) -> dict[str, Any]:
    return {"item_id": record.get("author_id"), "title": text_of(record.get("name"))}


def _book(authors: dict[str, str], record: Record, counts: Counts, line: int) -> dict[str, Any]:
    written = [authors.get(one.get("author_id", "")) for one in _objects(record.get("authors"))]
    shelves = [text_of(shelf.get("name")) for shelf in _objects(record.get("popular_shelves"))]
    return {
        "item_id": record.get("book_id"),
        "title": text_of(record.get("title")),
        "brand": ", ".join(filter(None, written)) or text_of(record.get("publisher")),
        "categories": SET.join([shelf for shelf in shelves if shelf][:MOST_SHELVES]) or None,
        "description": text_of(record.get("description")),
    }


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _second(written: Any, name: str, line: int) -> int | None:
    """Unix seconds. Raises BadValue."""
    if not written:
        return None
    try:
        return int(datetime.strptime(written, WRITTEN).timestamp())
    except (ValueError, TypeError, OverflowError) as error:
        raise BadValue(
            f'{name}, line {line}, column "date_added": "{written}" is not a time such as '
            '"Sun Jul 30 07:44:10 -0700 2017"; correct the line.'
        ) from error
