"""Untrusted text as one printable line of a prompt."""

from __future__ import annotations

import unicodedata

_DROPPED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that are never shown: control, format (direction marks among them), surrogate, private,
line breaks."""


def plain_text(text: str, max_characters: int) -> str:
    """One line of printable text: control and format characters become spaces, white space collapses, and the
    text is cut at the last word that ends within `max_characters` (inside the word where the first one is
    longer than that)."""
    if len(text) > 4 * max_characters:
        text = text[: 4 * max_characters]  # no need to clean what will be cut
    if not text.isprintable():
        text = "".join(" " if unicodedata.category(c) in _DROPPED else c for c in text)
    text = " ".join(text.split())
    if len(text) <= max_characters:
        return text
    cut = text.rfind(" ", 0, max_characters + 1)
    return text[: cut if cut > 0 else max_characters]
