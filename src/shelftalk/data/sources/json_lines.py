"""JSON lines: one object per line; a key that an object lacks is a missing value."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import DETECTED, TextForm, open_text, read_text
from shelftalk.data.sources.typed_columns import Columns
from shelftalk.errors import UnreadableFile

SHORT = 16
"""Most characters of a number with a point that is a float without loss: 15 digits."""
ONE_PER_LINE = 'write one object per line, for instance by "jq -c .[] FILE" where the file is one list.'
Record = Mapping[str, Any]
Parse = Callable[[Path, int, str, Collection[str]], Record]
"""An object from `(path, line, text, wanted)`, or UnreadableFile; `wanted` are the keys that matter."""


class _Twice(dict[str, Any]):
    """An object in which a key occurs more than once."""

    keys_twice: frozenset[str] = frozenset()


def read(path: Path, wanted: Collection[str], form: TextForm = DETECTED) -> Table:
    """The wanted keys of all objects. Raises UnreadableFile, naming the first line that is no object."""
    return read_text(path, form, lambda encoding: _table(path, wanted, encoding))


def _table(path: Path, wanted: Collection[str], encoding: str) -> Table:
    names: dict[str, None] = {}
    columns, empty = Columns(wanted), True
    for line, record in records(path, encoding, wanted):
        names.update(dict.fromkeys(record))
        columns.add(line, record)
        empty = False
    if empty:
        raise UnreadableFile(f"{path.name} is empty; give a file with one JSON object per line.")
    frame, lines = columns.finish()
    return Table(path, list(names), frame.select([name for name in names if name in wanted]), lines, "line")


def records(
    path: Path, encoding: str, wanted: Collection[str], parse: Parse | None = None
) -> Iterator[tuple[int, Record]]:
    """Each object with its line, counted from 1; blank lines are left out. Raises UnreadableFile."""
    parse = parse or json_object
    with open_text(path, encoding) as file:
        for line, text in enumerate(file, start=1):
            if not text.isspace():
                yield line, parse(path, line, text, wanted)


def json_object(path: Path, line: int, text: str, wanted: Collection[str]) -> dict[str, Any]:
    """The object of a line. Raises UnreadableFile."""
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
