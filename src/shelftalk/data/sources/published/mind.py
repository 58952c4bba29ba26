"""MIND, the Microsoft News Dataset: behaviors.tsv and news.tsv, neither with a header or quotes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shelftalk.data.sources.layouts import Files
from shelftalk.data.sources.published.rows import PATH, Counts, cells, table_of
from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import TextForm, read_text
from shelftalk.errors import BadValue

BEHAVIOR = ("impression", "user", "time", "history", "impressions")
NEWS = ("news", "category", "subcategory", "title", "abstract", "url", "title entities", "abstract entities")
NOT_CLICKED = "are items that were shown and not clicked, and are no interactions"
WRITTEN = "%m/%d/%Y %I:%M:%S %p"
"""Times as in "11/11/2019 9:05:58 AM"."""


def interactions(files: Files, form: TextForm) -> Table:
    """The clicks: those of a user's history first, in its order and without times, then those of the
    impressions, by their times. The position orders both."""
    path = files["interactions"]

    def read(encoding: str) -> Table:
        shown_items = Counts(path)
        clicks = _clicks(path, encoding, shown_items)
        return table_of(path, ("user_id", "item_id", "position", "timestamp"), clicks, shown_items)

    return read_text(path, form, read)


def items(files: Files, form: TextForm) -> Table:
    """news.tsv: the title, the category with its part, and the abstract."""
    path = files["items"]

    def read(encoding: str) -> Table:
        rows = (
            (
                line,
                {
                    "item_id": row[0],
                    "title": row[3] or None,
                    "categories": PATH.join(filter(None, row[1:3])) or None,
                    "description": row[4] or None,
                },
            )
            for line, row in cells(path, encoding, "\t", len(NEWS), NEWS)
        )
        return table_of(path, ("item_id", "title", "categories", "description"), rows, Counts(path))

    return read_text(path, form, read)


def _clicks(path: Path, encoding: str, shown_items: Counts) -> Iterator[tuple[int, dict[str, Any]]]:
    """A user's rows of impressions repeat one history, or a longer one: what is new of it is a click."""
    shown: dict[str, int] = {}
    for line, (_, user, time, history, impressions) in cells(path, encoding, "\t", len(BEHAVIOR), BEHAVIOR):
        second = _second(time, path.name, line)
        clicked = history.split()
        for position in range(shown.get(user, 0), len(clicked)):
            yield line, {"user_id": user, "item_id": clicked[position], "position": position}
        shown[user] = max(shown.get(user, 0), len(clicked))
        for impression in impressions.split():
            item, dash, label = impression.rpartition("-")
            if not dash or label not in ("0", "1"):
                raise BadValue(
                    f'{path.name}, line {line}, column "impressions": "{impression}" is not an item and '
                    "whether it was clicked, such as N55689-1; use the part of MIND that has labels."
                )
            shown_items.rows += 1
            if label == "0":
                shown_items.add(NOT_CLICKED, line, item)
            if label == "1":
                yield line, {"user_id": user, "item_id": item, "position": second, "timestamp": second}


def _second(written: str, name: str, line: int) -> int:
    """Unix seconds of a time that is taken as UTC; larger than any position in a history. Raises
    BadValue."""
    try:
        return int(datetime.strptime(written, WRITTEN).replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise BadValue(
            f'{name}, line {line}, column "time": "{written}" is not a time such as "11/11/2019 9:05:58 AM"; '
            "correct the line."
        ) from error
