"""MovieLens as GroupLens publishes it: 100K (u.data, u.item), 1M and 10M (`::`), later ones (CSV)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shelftalk.data.sources.delimited import read_csv
from shelftalk.data.sources.layouts import Files
from shelftalk.data.sources.published.rows import SET, Counts, cells, table_of
from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import TextForm, read_text

RATED = ("user_id", "item_id", "rating", "timestamp")
FILM = ("item_id", "title", "categories")
GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
FIELDS_100K = ("movie id", "movie title", "release date", "video release date", "IMDb URL", *GENRES_100K)
NO_GENRE = "(no genres listed)"
CSV_COLUMNS = {"userId": "user_id", "movieId": "item_id", "rating": "rating", "timestamp": "timestamp"}


def interactions_100k(files: Files, form: TextForm) -> Table:
    """u.data: user, item, rating and Unix seconds, by tabs."""
    return _ratings(files["interactions"], form, "\t")


def interactions_1m(files: Files, form: TextForm) -> Table:
    """ratings.dat: UserID::MovieID::Rating::Timestamp."""
    return _ratings(files["interactions"], form, "::")


def interactions_csv(files: Files, form: TextForm) -> Table:
    """ratings.csv: userId,movieId,rating,timestamp."""
    return _renamed(read_csv(files["interactions"], CSV_COLUMNS, form), CSV_COLUMNS)


def items_100k(files: Files, form: TextForm) -> Table:
    """u.item: five fields and 19 flags of genres, by vertical bars, in Latin-1."""
    path = files["items"]

    def read(encoding: str) -> Table:
        rows = cells(path, encoding, "|", len(FIELDS_100K), FIELDS_100K)
        return _films(path, ((line, row[0], row[1], _flagged(row[5:])) for line, row in rows))

    return read_text(path, form, read)


def items_1m(files: Files, form: TextForm) -> Table:
    """movies.dat: MovieID::Title::Genres, the genres by vertical bars; 1M in Latin-1, 10M in UTF-8."""
    path = files["items"]

    def read(encoding: str) -> Table:
        rows = cells(path, encoding, "::", 3, ("MovieID", "Title", "Genres"))
        return _films(path, ((line, item, title, genres.split("|")) for line, (item, title, genres) in rows))

    return read_text(path, form, read)


def items_csv(files: Files, form: TextForm) -> Table:
    """movies.csv: movieId,title,genres, the genres by vertical bars."""
    columns = {"movieId": "item_id", "title": "title", "genres": "categories"}
    table = _renamed(read_csv(files["items"], columns, form), columns)
    if "categories" not in table.frame:
        return table
    genres = table.frame["categories"]
    genres = genres.set(genres == NO_GENRE, None).str.replace_all("|", SET, literal=True)
    table.frame.replace_column(table.frame.get_column_index("categories"), genres)
    return table


def _ratings(path: Path, form: TextForm, separator: str) -> Table:
    def read(encoding: str) -> Table:
        counts = Counts(path)
        rows = cells(path, encoding, separator, len(RATED), RATED)
        return table_of(
            path, RATED, ((line, dict(zip(RATED, row, strict=True))) for line, row in rows), counts
        )

    return read_text(path, form, read)


def _films(path: Path, rows: Any) -> Table:
    """`rows`: (line, id, title, genres)."""
    return table_of(
        path,
        FILM,
        (
            (line, {"item_id": item, "title": title or None, "categories": _joined(genres)})
            for line, item, title, genres in rows
        ),
        Counts(path),
    )


def _joined(genres: Sequence[str]) -> str | None:
    return SET.join(genre for genre in genres if genre and genre != NO_GENRE) or None


def _flagged(flags: Sequence[str]) -> list[str]:
    return [genre for genre, flag in zip(GENRES_100K, flags, strict=True) if flag.strip() == "1"]


def _renamed(table: Table, columns: dict[str, str]) -> Table:
    """The table with our names of its columns."""
    names = [columns.get(name, name) for name in table.names]
    frame = table.frame.rename({theirs: ours for theirs, ours in columns.items() if theirs in table.frame})
    return Table(table.path, names, frame, table.row_numbers, table.unit, table.decimal_comma, table.notes)
