"""Ids that look equal and are not, and words for a missing value."""

from __future__ import annotations

import os.path
import unicodedata
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation

import polars as pl

NULL_WORDS = ("nan", "NaN", "None", "none", "null", "NULL", "Null", "NaT", "<NA>", "\\N")
"""What missing values become when a column is turned into text, by pandas and by databases."""
PLAIN = r"^[!-~]*$"
"""Printable ASCII without a space: two different ids of this kind never look equal."""


def is_null_word(values: pl.Series) -> pl.Series:
    """[n] Boolean for texts [n]."""
    return values.is_in(NULL_WORDS).fill_null(False)


def lookalike_ids(ids: pl.Series) -> list[tuple[str, str]]:
    """Pairs of ids that look equal and differ in Unicode form, space or invisible characters; the first of
    a pair appears later."""
    distinct = ids.unique(maintain_order=True)
    odd = distinct.filter(~distinct.str.contains(PLAIN))
    if not len(odd):
        return []
    first: dict[str, str] = {}
    alike = [(one, first.setdefault(appearance(one), one)) for one in distinct]
    return [(one, other) for one, other in alike if one != other]


def appearance(text: str) -> str:
    """What a reader sees of a text: in NFKC, without invisible characters, white space collapsed."""
    if text.isascii() and text.isprintable() and " " not in text:
        return text
    visible = "".join(
        c
        for c in unicodedata.normalize("NFKC", text)
        if unicodedata.category(c) not in ("Cf", "Cc") or c.isspace()
    )
    return " ".join(visible.split())


def lookalike_hint(unknown: str, known: Iterable[str]) -> str:
    """'has "x" (...)': an id of `known` that may be meant by `unknown`, and how the two differ; "" where
    there is none."""
    known = list(known)
    causes: dict[Callable[[str], object], str] = {
        appearance: "they look equal, but",
        _without_case: "they differ in case:",
        _as_number: "they are one number:",
    }
    for key, cause in causes.items():
        wanted = key(unknown)
        if (near := next((one for one in known if key(one) == wanted), None)) is not None:
            return f'has "{near}" ({cause} {difference(unknown, near)})'
    return ""


def difference(one: str, other: str) -> str:
    """Where two texts differ, by code points."""
    start = len(os.path.commonprefix([one, other]))
    end = len(os.path.commonprefix([one[start:][::-1], other[start:][::-1]]))
    first, second = (_code_points(text[start : len(text) - end]) for text in (one, other))
    return f"the first has {first} where the second has {second}"


def _code_points(text: str) -> str:
    shown = " ".join(f"U+{ord(character):04X}" for character in text[:8])
    return (f"{shown} ..." if len(text) > 8 else shown) or "nothing"


def _without_case(text: str) -> str:
    return appearance(text).casefold()


def _as_number(text: str) -> object:
    """The value of a number such as 007 or 7.0; another text itself."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return text
