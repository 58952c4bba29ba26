"""JSON lines: one object per line, UTF-8; a key that an object lacks is a missing value."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import polars as pl

from shelftalk.data.sources.table import Table
from shelftalk.errors import UnreadableFile

TYPES: dict[frozenset[type], type[pl.DataType]] = {
    frozenset({str}): pl.String,
    frozenset({int}): pl.Int64,
    frozenset({float}): pl.Float64,
    frozenset({int, float}): pl.Float64,
}


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
                record = _object(path, line, text)
                names.update(dict.fromkeys(record))
                lines.append(line)
                for name, column in values.items():
                    column.append(record.get(name))
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"{path.name} is not UTF-8 text ({error.reason}); save it in UTF-8.") from error
    except OSError as error:
        raise UnreadableFile(f"{path.name} cannot be read ({error.strerror}); check the file and its permissions.") from error
    if not lines:
        raise UnreadableFile(f"{path.name} is empty; give a file with one JSON object per line.")
    frame = pl.DataFrame([_series(name, values[name]) for name in names if name in values])
    return Table(path, list(names), frame, pl.Series(lines, dtype=pl.Int64), "line")


def _object(path: Path, line: int, text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
        if "\\u" in text:
            json.dumps(record, ensure_ascii=False).encode()  # an escaped half of a surrogate pair is legal JSON but no text
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"{path.name}, line {line}: broken JSON ({error}); mend the line.") from error
    if not isinstance(record, dict):
        raise UnreadableFile(f"{path.name}, line {line}: not a JSON object; write one object per line.")
    return record


def _series(name: str, values: list[Any]) -> pl.Series:
    """A typed column; pl.Object where types mix, an integer has more than 64 bits, or a value is neither text nor number."""
    kinds = frozenset(type(value) for value in values if value is not None)
    large = any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in values)
    if not kinds:
        return pl.Series(name, values, pl.Null)
    return pl.Series(name, values, dtype=pl.Object if large else TYPES.get(kinds, pl.Object))
