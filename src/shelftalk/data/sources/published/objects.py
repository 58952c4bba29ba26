"""Files of one object per line, in JSON or, as some sets were published, in Python's notation."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from shelftalk.data.sources.json_lines import Record, json_object, records
from shelftalk.data.sources.published.rows import Counts, table_of
from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import TextForm, open_binary, read_text
from shelftalk.errors import UnreadableFile

PRICE = re.compile(r"\d+\.?\d*|\.\d+", re.ASCII)
Convert = Callable[[Record, Counts, int], Mapping[str, Any] | None]
"""A row by our column names from `(object, counts, line)`; None leaves the object out."""


def read_objects(
    path: Path, form: TextForm, names: Sequence[str], convert: Convert, wanted: Collection[str]
) -> Table:
    """One row for each object of a file. `wanted` are the keys that `convert` reads. Raises UnreadableFile,
    naming the first line that is no object."""

    def read(encoding: str) -> Table:
        counts = Counts(path)
        parse = python_object if _is_python(path) else json_object

        def rows() -> Any:
            for line, record in records(path, encoding, wanted, parse):
                counts.rows += 1
                row = convert(record, counts, line)
                if row is not None:
                    yield line, row

        return table_of(path, names, rows(), counts)

    return read_text(path, form, read)


def first_object(path: Path) -> Record:
    """The object of the first line; an empty one where it is none."""
    with open_binary(path) as file:
        text = file.readline().decode("utf-8", "replace")
    try:
        return (python_object if _is_python(path) else json_object)(path, 1, text, ())
    except UnreadableFile:
        return {}


def python_object(path: Path, line: int, text: str, wanted: Collection[str]) -> Record:
    """The dict of a line in Python's notation, read as a literal: nothing in it is executed. Raises
    UnreadableFile."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a backslash before an ordinary letter is one
            record = ast.literal_eval(text.strip())
        json.dumps([record[name] for name in wanted if name in record], ensure_ascii=False).encode()
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        reason = getattr(error, "msg", None) or str(error)
        raise UnreadableFile(
            f"{path.name}, line {line}: no dict in Python's notation ({reason}); correct the line, or copy "
            "the file again."
        ) from error
    if not isinstance(record, dict):
        raise UnreadableFile(
            f"{path.name}, line {line}: no dict in Python's notation; correct the line, or copy the file "
            "again."
        )
    return record


def text_of(value: Any, joint: str = " ") -> str | None:
    """A text, or the texts of a list as one; None where there is none."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, list):
        return joint.join(filter(None, (text_of(one, joint) for one in value))) or None
    return None if value is None else str(value)


def price_of(value: Any, counts: Counts, line: int) -> float | None:
    """A price as a number; a text such as "$1,234.50" is read as one, and other texts are counted as none."""
    if value is None or value == "" or isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    plain = str(value).strip().removeprefix("$").replace(",", "")
    if PRICE.fullmatch(plain):
        return float(plain)
    counts.add("have a price that is no number, and are read as without one", line, str(value))
    return None


def _is_python(path: Path) -> bool:
    """Whether the first object has keys in single quotes."""
    with open_binary(path) as file:
        start = file.readline(200).lstrip(b"\xef\xbb\xbf \t")
    return start.replace(b" ", b"").startswith((b"{'", b"{u'", b'{u"'))
