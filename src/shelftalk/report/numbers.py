"""How numbers and untrusted texts are formatted: .1234, as usual in the field, and an en dash for what
was not measured."""

from __future__ import annotations

import math
import re
import unicodedata

from shelftalk.report.content import Fact, Interval

MISSING = "–"
MINUS = "\u2212"
UPPER_CASE = {"ndcg", "hr", "mrr", "rmse", "mae", "map", "auc"}
RIGHT_TO_LEFT = {"R", "AL", "RLE", "RLO", "RLI", "LRE", "LRO", "LRI", "FSI"}
"""Bidirectional classes that need isolating."""


def known(value: float | None) -> bool:
    """Whether a number was measured: zero was; None, NaN and infinities were not."""
    return value is not None and math.isfinite(value)


def figure(value: float | None) -> str:
    """.1234, 1.0234, or a dash."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{abs(value):.4f}".removeprefix("0")
    return MINUS + text if value < 0 and float(text) else text


def signed(value: float | None) -> str:
    """+.0123 or −.0123: a difference."""
    text = figure(value)
    return text if text == MISSING or text.startswith(MINUS) else "+" + text


def interval(ends: Interval | None) -> str:
    """[.0702, .0943], or "" where there is none."""
    if ends is None or not (known(ends[0]) and known(ends[1])):
        return ""
    return f"[{figure(ends[0])}, {figure(ends[1])}]"


def signed_interval(low: float | None, high: float | None) -> str:
    """[−.0020, +.0310], or a dash."""
    return f"[{signed(low)}, {signed(high)}]" if known(low) and known(high) else MISSING


def p_value(p: float | None) -> str:
    """As in ".034" or "< .001"."""
    if p is None or not math.isfinite(p):
        return MISSING
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def percent(share: float | None) -> str:
    """As in "4.0 %"."""
    return MISSING if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"


def score(value: float | None) -> str:
    """A model's own score, three significant digits."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:.3g}".replace("-", MINUS)


def count(n: int | None) -> str:
    """As in 90,072."""
    return MISSING if n is None else f"{n:,}"


def duration(seconds: float | None) -> str:
    """4.2 s, 38 s, 2 min 31 s, 1 h 04 min."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def short_duration(seconds: float | None) -> str:
    """As `duration`, with milliseconds below a second: 4 ms, 0.3 ms."""
    if seconds is None or not math.isfinite(seconds) or seconds >= 0.9995:
        return duration(seconds)
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.00095 else f"{1000 * seconds:.1f} ms"


def fact(value: Fact) -> str:
    """A fact as text; strings are cut at 400 characters."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:,.4g}" if math.isfinite(value) else MISSING
    return MISSING if value is None or value == "" else shorten(value, 400)


def metric_name(metric: str) -> str:
    """As in "ndcg@10" -> "NDCG@10", "popularity_lift@10" -> "Popularity lift@10"."""
    name, at, cutoff = metric.replace("_", " ").partition("@")
    return (name.upper() if name in UPPER_CASE else name.capitalize()) + at + cutoff


def title(name: str) -> str:
    """As in "masked_items" -> "Masked items"."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def printable(text: str) -> str:
    """The text without control characters, which become spaces, and lone surrogates, which become U+FFFD."""
    return "".join(_printable(character) for character in text)


def _printable(character: str) -> str:
    if character == "\n":
        return character
    category = unicodedata.category(character)
    return {"Cc": " ", "Cs": "\ufffd"}.get(category, character)


def shorten(text: str, limit: int = 120) -> str:
    """One line of at most `limit` characters."""
    line = re.sub(r"\s+", " ", printable(text[: 4 * limit])).strip()
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1].rstrip() + "…"


def excerpt(text: str, limit: int = 1500) -> str:
    """A text with its line breaks, cut at `limit` characters, and how many more there were."""
    if len(text) <= limit:
        return printable(text)
    return f"{printable(text[:limit])}… [{count(len(text) - limit)} more characters]"


def needs_isolation(text: str) -> bool:
    """Whether a text could change the reading direction of the text around it."""
    return any(unicodedata.bidirectional(character) in RIGHT_TO_LEFT for character in text)
