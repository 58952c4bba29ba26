"""Last.fm: the listening events of a thousand users and the play counts of 360,000 (O. Celma, 2010), and the
set of HetRec 2011. Items are artists, and counts of plays are no ratings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from shelftalk.data.sources.layouts import Files
from shelftalk.data.sources.published.rows import SET, Counts, cells, table_of
from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import TextForm, read_text

FIELDS_1K = ("userid", "timestamp", "artid", "artname", "traid", "traname")
FIELDS_360K = ("usersha1", "artmbid", "artname", "plays")
FIELDS_HETREC = ("userID", "artistID", "weight")
FIELDS_ARTISTS = ("id", "name", "url", "pictureURL")
NO_ID = "have no id of their artist, and its name stands for it"
NO_ARTIST = "name no artist, and are left out"
SHA1 = 40
MOST_TAGS = 5


def interactions_1k(files: Files, form: TextForm) -> Table:
    """One row for each track that a user listened to; the item is its artist."""
    return _events(files["interactions"], form, FIELDS_1K, ("user_id", "item_id", "timestamp"))


def items_1k(files: Files, form: TextForm) -> Table:
    """The artists by their first name in the events."""
    return _artists(files["interactions"], form, FIELDS_1K)


def interactions_360k(files: Files, form: TextForm) -> Table:
    """A user's most played artists, without an order."""
    return _events(files["interactions"], form, FIELDS_360K, ("user_id", "item_id"))


def items_360k(files: Files, form: TextForm) -> Table:
    """The artists by their first name."""
    return _artists(files["interactions"], form, FIELDS_360K)


def interactions_hetrec(files: Files, form: TextForm) -> Table:
    """user_artists.dat: who listened to whom and how often, without an order."""
    path = files["interactions"]

    def read(encoding: str) -> Table:
        rows = _after_header(cells(path, encoding, "\t", len(FIELDS_HETREC), FIELDS_HETREC))
        events = ((line, {"user_id": row[0], "item_id": row[1]}) for line, row in rows)
        return table_of(path, ("user_id", "item_id"), events, Counts(path))

    return read_text(path, form, read)


def items_hetrec(files: Files, form: TextForm) -> Table:
    """artists.dat, with the tags that were assigned most often where their files are there."""
    path = files["items"]
    tags = _tags(files, form) if {"assigned", "tags"} <= files.keys() else {}

    def read(encoding: str) -> Table:
        rows = _after_header(cells(path, encoding, "\t", len(FIELDS_ARTISTS), FIELDS_ARTISTS))
        artists = (
            (line, {"item_id": row[0], "title": row[1] or None, "categories": tags.get(row[0])})
            for line, row in rows
        )
        return table_of(path, ("item_id", "title", "categories"), artists, Counts(path))

    return read_text(path, form, read)


def _events(path: Path, form: TextForm, fields: Sequence[str], names: Sequence[str]) -> Table:
    def read(encoding: str) -> Table:
        counts = Counts(path)
        return table_of(path, names, _rows(path, encoding, fields, counts), counts)

    return read_text(path, form, read)


def _artists(path: Path, form: TextForm, fields: Sequence[str]) -> Table:
    """One row for each artist, at the line that names it first."""

    def read(encoding: str) -> Table:
        seen: set[str] = set()

        def first() -> Iterator[tuple[int, dict[str, Any]]]:
            for line, row in _rows(path, encoding, fields, Counts(path)):
                if row["item_id"] not in seen:
                    seen.add(row["item_id"])
                    yield line, row

        return table_of(path, ("item_id", "title"), first(), Counts(path))

    return read_text(path, form, read)


def _rows(
    path: Path, encoding: str, fields: Sequence[str], counts: Counts
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Events with the id and the name of their artist."""
    user, artist, name = (fields.index(one) for one in (fields[0], _id_field(fields), "artname"))
    time = fields.index("timestamp") if "timestamp" in fields else None
    for line, row in cells(path, encoding, "\t", len(fields), fields):
        counts.rows += 1
        if not row[artist] and not row[name]:
            counts.add(NO_ARTIST, line)
            continue
        if not row[artist]:
            counts.add(NO_ID, line, row[name])
        event = {"user_id": row[user], "item_id": row[artist] or row[name], "title": row[name] or None}
        yield line, event if time is None else {**event, "timestamp": row[time]}


def _id_field(fields: Sequence[str]) -> str:
    return "artid" if "artid" in fields else "artmbid"


def _after_header(rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    next(rows, None)
    return rows


def _tags(files: Files, form: TextForm) -> dict[str, str]:
    """Artist -> the names of the tags that most users assigned."""
    assigned, names = files["assigned"], files["tags"]
    counted: dict[str, Counter[str]] = defaultdict(Counter)

    def count(encoding: str) -> Table:
        counted.clear()
        rows = ((line, row) for line, row in _after_header(cells(assigned, encoding, "\t", 6)))
        for _, row in rows:
            counted[row[1]][row[2]] += 1
        return table_of(assigned, (), (), Counts(assigned))

    def name(encoding: str) -> Table:
        rows = _after_header(cells(names, encoding, "\t", 2, ("tagID", "tagValue")))
        tags = ((line, {"item_id": row[0], "title": row[1]}) for line, row in rows)
        return table_of(names, ("item_id", "title"), tags, Counts(names))

    read_text(assigned, form, count)
    named = read_text(names, form, name).frame
    value_of = dict(named.select("item_id", "title").rows()) if "title" in named else {}
    return {
        artist: SET.join(value_of[tag] for tag, _ in tags.most_common(MOST_TAGS) if value_of.get(tag))
        for artist, tags in counted.items()
    }
