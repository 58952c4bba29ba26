"""The Yelp Open Dataset: reviews and businesses as JSON lines."""

from __future__ import annotations

from typing import Any

from shelftalk.data.dataset import ITEM_COLUMNS
from shelftalk.data.sources.json_lines import Record
from shelftalk.data.sources.layouts import Files
from shelftalk.data.sources.published.objects import read_objects, text_of
from shelftalk.data.sources.published.rows import SET, Counts, items_of
from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import TextForm

REVIEW = {"user_id": "user_id", "business_id": "item_id", "stars": "rating", "date": "timestamp"}
BUSINESS = ("business_id", "name", "categories", "city", "state")


def interactions(files: Files, form: TextForm) -> Table:
    """yelp_academic_dataset_review.json."""
    return read_objects(files["interactions"], form, tuple(REVIEW.values()), _review, tuple(REVIEW))


def items(files: Files, form: TextForm) -> Table:
    """yelp_academic_dataset_business.json: where a business is stands in its description."""
    if "items" not in files:
        return items_of(interactions(files, form))
    return read_objects(files["items"], form, tuple(ITEM_COLUMNS), _business, BUSINESS)


def _review(record: Record, counts: Counts, line: int) -> dict[str, Any]:
    return {ours: record.get(theirs) for theirs, ours in REVIEW.items()}


def _business(record: Record, counts: Counts, line: int) -> dict[str, Any]:
    categories = text_of(record.get("categories"))
    where = [text_of(record.get(name)) for name in ("city", "state")]
    return {
        "item_id": record.get("business_id"),
        "title": text_of(record.get("name")),
        "categories": categories and categories.replace(", ", SET),
        "description": ", ".join(filter(None, where)) or None,
    }
