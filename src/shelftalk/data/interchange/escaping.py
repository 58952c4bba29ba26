"""Ids in files whose fields end at white space: RecBole's atomic files and TREC's.

Whatever would end a field, or be read as something else than text, is written as its UTF-8 bytes in percent
notation, "%" included, so that `urllib.parse.unquote` gives the id back and no two ids become one. Most data
sets have no such id, and then the files have the ids as they are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

SPECIAL = frozenset('%"#')
"""Beside white space and control characters: the escape itself, the quote of a CSV reader, and what divides a
request's number from its user."""
MISSING = frozenset(
    ("-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None")
    + ("n/a", "nan", "null")
)
"""What pandas takes for a missing value: RecBole's reader would lose such an id."""


def escaped(text: str) -> str:
    """The id as one field; `urllib.parse.unquote` undoes it."""
    if text in MISSING:
        return _percent(text[0]) + text[1:]
    return "".join(_percent(character) if _ends_field(character) else character for character in text)


def plain(text: str | None) -> str:
    """A text of the catalogue as one field: white space and control characters become one space, double
    quotes single ones. This loses what it changes, which an id must not."""
    spaced = "".join(" " if _ends_field(c) and c not in SPECIAL else c for c in text or "")
    return " ".join(spaced.split()).replace('"', "'")


def changed(ids: Iterable[str]) -> int:
    """How many of the ids are not written as they are."""
    return sum(escaped(one) != one for one in ids)


def _ends_field(character: str) -> bool:
    return character in SPECIAL or character.isspace() or unicodedata.category(character)[0] in "CZ"


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
