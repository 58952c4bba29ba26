"""Steam reviews and games as J. McAuley's group publishes them, in Python's notation."""

from __future__ import annotations

from typing import Any

from shelftalk.data.dataset import ITEM_COLUMNS
from shelftalk.data.sources.json_lines import Record
from shelftalk.data.sources.layouts import Files
from shelftalk.data.sources.published.objects import price_of, read_objects, text_of
from shelftalk.data.sources.published.rows import SET, Counts, items_of
from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import TextForm

REVIEW = ("username", "product_id", "date")
GAME = ("id", "app_name", "title", "developer", "publisher", "genres", "tags", "price")
FREE = "free"


def interactions(files: Files, form: TextForm) -> Table:
    """steam_reviews.json: username, product and day. Names of users are not unique on Steam, and the ids of
    users are missing in half of the rows, so the name is the user, as in the literature."""
    return read_objects(files["interactions"], form, ("user_id", "item_id", "timestamp"), _review, REVIEW)


def items(files: Files, form: TextForm) -> Table:
    """steam_games.json; the ids of the interactions where there is none."""
    if "items" not in files:
        return items_of(interactions(files, form))
    return read_objects(files["items"], form, tuple(ITEM_COLUMNS), _game, GAME)


def _review(record: Record, counts: Counts, line: int) -> dict[str, Any]:
    return {
        "user_id": record.get("username"),
        "item_id": record.get("product_id"),
        "timestamp": record.get("date"),
    }


def _game(record: Record, counts: Counts, line: int) -> dict[str, Any] | None:
    if record.get("id") is None:
        counts.add("have no id, and are left out", line, text_of(record.get("app_name")))
        return None
    price = record.get("price")
    free = isinstance(price, str) and FREE in price.lower()
    return {
        "item_id": record["id"],
        "title": text_of(record.get("app_name")) or text_of(record.get("title")),
        "brand": text_of(record.get("developer")) or text_of(record.get("publisher")),
        "categories": text_of(record.get("genres") or record.get("tags"), SET),
        "price": 0.0 if free else price_of(price, counts, line),
    }
