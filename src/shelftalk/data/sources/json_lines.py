"""JSON lines: one object per line, UTF-8; a key that an object lacks is a missing value."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from shelftalk.data.sources.encoding import not_utf8
from shelftalk.data.sources.table import Table
from shelftalk.errors import UnreadableFile

TYPES: dict[frozenset[type], type[pl.DataType]] = {
    frozenset({str}): pl.String,
    frozenset({int}): pl.Int64,
    frozenset({float}): pl.Float64,
    frozenset({int, float}): pl.Float64,
}
NUMBERS = frozenset({int, float, Decimal})
EXACT_FLOAT = 2**53
"""Integers up to this are floats without loss."""
SHORT = 16
"""Most characters of a number with a point that is a float without loss: 15 digits."""
DIGITS = 38
"""Digits that a decimal column holds."""
ONE_PER_LINE = 'write one object per line, for instance by "jq -c .[] FILE" where the file is one list.'


class _Twice(dict[str, Any]):
    """An object in which a key occurs more than once."""

    keys_twice: frozenset[str] = frozenset()


def read(path: Path, wanted: Collection[str]) -> Table:
    """The wanted keys of all objects. Raises UnreadableFile, naming the first line that is no object."""
    names: dict[str, None] = {}
    values: dict[str, list[Any]] = {name: [] for name in wanted}
    lines: list[int] = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line, text in enumerate(file, start=1):
                if text.isspace():
                    continue
                record = _object(path, line, text, wanted)
                names.update(dict.fromkeys(record))
                lines.append(line)
                for name, column in values.items():
                    column.append(record.get(name))
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except OSError as error:
        raise UnreadableFile(
            f"{path.name} cannot be read ({error.strerror}); check the file and its permissions."
        ) from error
    if not lines:
        raise UnreadableFile(f"{path.name} is empty; give a file with one JSON object per line.")
    frame = pl.DataFrame([_series(name, values[name]) for name in names if name in values])
    return Table(path, list(names), frame, pl.Series(lines, dtype=pl.Int64), "line")


def _object(path: Path, line: int, text: str, wanted: Collection[str]) -> dict[str, Any]:
    if line == 1 and "\0" in text[:2]:
        raise not_utf8(path)
    try:
        record = json.loads(text, parse_float=_number, object_pairs_hook=_without_loss)
        if "\\u" in text and isinstance(record, dict):  # half a surrogate pair is legal JSON but no text
            json.dumps([record.get(name) for name in wanted], ensure_ascii=False, default=str).encode()
    except (ValueError, RecursionError) as error:
        one_document = text.lstrip().startswith("[") or text.strip() == "{"
        remedy = ONE_PER_LINE if one_document else "correct the line."
        raise UnreadableFile(f"{path.name}, line {line}: broken JSON ({error}); {remedy}") from error
    if not isinstance(record, dict):
        raise UnreadableFile(f"{path.name}, line {line}: not a JSON object; {ONE_PER_LINE}")
    twice = record.keys_twice.intersection(wanted) if isinstance(record, _Twice) else ()
    if twice:
        raise UnreadableFile(
            f'{path.name}, line {line}: the key "{min(twice)}" is twice in the object; keep one of them.'
        )
    return record


def _without_loss(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a line. Keys that occur twice are recorded: JSON allows them, and one of the values would
    be lost."""
    plain = dict(pairs)
    if len(plain) == len(pairs):
        return plain
    names = [name for name, _ in pairs]
    record = _Twice(plain)
    record.keys_twice = frozenset(name for name in plain if names.count(name) > 1)
    return record


def _number(text: str) -> float | Decimal:
    """A float where its shortest text is the written number, else the written number itself."""
    number = float(text)
    if len(text) <= SHORT or not number or math.isinf(number):
        return number
    written = Decimal(text)
    return number if written == Decimal(repr(number)) else written


def _series(name: str, values: list[Any]) -> pl.Series:
    """A typed column; pl.Object where types mix, an integer has more than 64 bits, or a value is neither
    text nor number."""
    held = [value for value in values if value is not None]
    kinds = frozenset(map(type, held))
    if not kinds:
        return pl.Series(name, values, pl.Null)
    large = any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in held)
    lossy = Decimal in kinds or (
        float in kinds and any(type(value) is int and abs(value) > EXACT_FLOAT for value in held)
    )
    if lossy and kinds <= NUMBERS:
        return _decimals(name, values)
    return pl.Series(name, values, dtype=pl.Object if large else TYPES.get(kinds, pl.Object))


def _decimals(name: str, values: list[Any]) -> pl.Series:
    """Numbers that floats would change, as decimals; pl.Object where one has too many digits."""
    exact = [
        None if value is None else Decimal(repr(value) if isinstance(value, float) else value)
        for value in values
    ]
    finite = [value for value in exact if value is not None and value.is_finite()]
    scale = max(0, *(-int(value.as_tuple().exponent) for value in finite))
    before = max(0, *(value.adjusted() + 1 for value in finite))
    if len(finite) < len([value for value in exact if value is not None]) or scale + before > DIGITS:
        return pl.Series(name, values, dtype=pl.Object)
    return pl.Series(name, exact, dtype=pl.Decimal(DIGITS, scale))
