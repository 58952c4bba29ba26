"""Items named by their titles; duplicates get a suffix that does not depend on the order of the file."""

from __future__ import annotations

import polars as pl

from shelftalk.data.plain_text import plain_text
from shelftalk.data.splitting import Split
from shelftalk.indexing.item_index import IndexSettings, ItemIndex

MAX_CHARACTERS = 120


def build(split: Split, settings: IndexSettings, seed: int) -> ItemIndex:
    """Name each item by its title, cut to 120 characters and ended by a line break.

    An item without a title is named by its brand and categories, then "untitled". Items of one name get "
    [2]", " [3]" ... in catalogue order (a seeded hash) if `settings.disambiguate`, else DuplicateName is
    raised.
    """
    names = [text or "untitled" for text in first_texts(split.dataset.items, MAX_CHARACTERS)]
    if settings.disambiguate:
        names = _disambiguated(names)
    return ItemIndex("titles", tuple(split.dataset.item_ids), tuple(names), symbols=False, end="\n")


def first_texts(items: pl.DataFrame, max_characters: int) -> list[str]:
    """Per item its title on one line, else its brand and categories, else ""; cut between words."""
    rows = zip(items["title"], items["brand"], items["categories"], strict=True)
    return [
        plain_text(title, max_characters) or plain_text(f"{brand} {kinds}", max_characters)
        for title, brand, kinds in rows
    ]


def _disambiguated(names: list[str]) -> list[str]:
    """The names with a suffix for the second and later items of a name, skipping names that exist already:
    A, A, "A [2]" -> A, "A [3]", "A [2]"."""
    taken, unique = set(names), []
    used: set[str] = set()
    last: dict[str, int] = {}  # the highest number given to a name: lower ones need not be tried again
    for name in names:
        number = last.get(name, 0) + 1
        candidate = name if number == 1 else f"{name} [{number}]"
        while candidate in used or (number > 1 and candidate in taken):
            number += 1
            candidate = f"{name} [{number}]"
        last[name] = number
        used.add(candidate)
        unique.append(candidate)
    return unique
