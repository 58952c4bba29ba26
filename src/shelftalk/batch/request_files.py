"""Files of requests: one row per request, as Parquet, CSV, TSV or JSON lines, read a few rows at a time.

    column        value                                                             needed
    history       item ids, oldest first; {"text": "a film like Alien"} for words   yes
    user_id       comes back beside the answer
    excluded      item ids that may not come back
    filter        {"categories": [...], "brands": [...], "min_price": 1, "max_price": 9, "only": [...]}
    ratings       those of the history, null where unknown
    candidates    item ids to rank                                                  for ranking
    item_id       the item to rate                                                  for rating

In Parquet and JSON lines these are lists and objects; a cell of text holds them as JSON, which is how they
stand in CSV and TSV. An id that is a whole number is taken as its digits.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from shelftalk.errors import BadValue, MissingColumn, MissingFile, UnreadableFile, nearest, reading
from shelftalk.records import Filter, Request, Text

COLUMNS = ("user_id", "history", "excluded", "filter", "ratings", "candidates", "item_id")
SUFFIXES = {".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".json"}
ROWS_AT_ONCE = 1024
FILTER_KEYS = ("categories", "brands", "min_price", "max_price", "only")
EXAMPLE = '["B01", {"text": "a film like Alien"}]'
EXAMPLES = {"history": EXAMPLE, "ratings": "[4.5, null]", "filter": '{"brands": ["OPI"]}'}
"""How a column is written; those that are not here hold ids."""
IDS = '["B01", "B07"]'


def columns_of(path: Path) -> list[str]:
    """The names of a file's columns; of JSON lines those of its first line. Raises MissingFile,
    UnreadableFile, and MissingColumn where there is no history."""
    suffix = suffix_of(path)
    if not path.is_file():
        raise MissingFile(f'"{path}" is no file; correct --requests.')
    with _readable(path):
        if suffix == ".parquet":
            names = list(pq.ParquetFile(path).schema_arrow.names)
        elif suffix in (".csv", ".tsv"):
            with path.open(encoding="utf-8-sig", newline="") as file:
                names = next(csv.reader(file, delimiter="\t" if suffix == ".tsv" else ","), [])
        else:
            names = list(next(_json_lines(path), {"history": []}))
    if "history" not in names:
        raise MissingColumn(
            f'"{path}" has no column "history" ({nearest("history", names) if names else "it is empty"}); '
            f"name it so, and let it hold item ids: {EXAMPLE}."
        )
    return names


def suffix_of(path: Path) -> str:
    """The ending that tells the format. Raises UnreadableFile for another."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UnreadableFile(
            f'"{path}" has no ending by which its format is known; rename it to one of '
            f"{', '.join(sorted(SUFFIXES))}."
        )
    return suffix


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows as they stand in the file, our columns alone. Raises UnreadableFile."""
    suffix = suffix_of(path)
    with _readable(path):
        if suffix == ".parquet":
            file = pq.ParquetFile(path, memory_map=True)
            names = [name for name in file.schema_arrow.names if name in COLUMNS]
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=names, use_threads=False):
                yield from batch.to_pylist()
        elif suffix in (".csv", ".tsv"):
            yield from _delimited(path, "\t" if suffix == ".tsv" else ",")
        else:
            yield from ({key: row[key] for key in COLUMNS if key in row} for row in _json_lines(path))


def request_of(row: dict[str, Any]) -> Request:
    """The request of a row. Raises BadValue, whose sentence lacks the row's number, or BadRequest."""
    history = tuple(_entry(one) for one in _list(row, "history"))
    user, item = _id(row.get("user_id")), _id(row.get("item_id"))
    given = _json(row.get("filter"), "filter")
    return Request(
        user,
        history,
        tuple(_rating(one) for one in _list(row, "ratings")),
        tuple(_id(one) for one in _list(row, "candidates")),
        item,
        _filter(given) if given else None,
        tuple(_id(one) for one in _list(row, "excluded")),
    )


def as_json(request: Request) -> str:
    """The request on one line, for `from_json`."""
    values: dict[str, Any] = {
        "user_id": request.user,
        "history": [{"text": str(one)} if isinstance(one, Text) else one for one in request.history],
        "ratings": request.ratings,
        "candidates": request.candidates,
        "item_id": request.item,
        "excluded": request.excluded,
    }
    if request.filter is not None:
        values["filter"] = {name: getattr(request.filter, name) for name in FILTER_KEYS}
    return json.dumps({name: value for name, value in values.items() if value}, ensure_ascii=False)


def from_json(line: str) -> Request:
    """What `as_json` wrote."""
    return request_of({"history": [], **json.loads(line)})


def _readable(path: Path) -> Any:
    return reading(f'"{path}" cannot be read', "correct the file and give the same command again")


def _delimited(path: Path, separator: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = csv.reader(file, delimiter=separator, strict=True)
        names = next(records, [])
        wanted = [(column, name) for column, name in enumerate(names) if name in COLUMNS]
        for record in records:
            if len(record) != len(names):
                raise ValueError(f"line {records.line_num} has {len(record)} cells, the header {len(names)}")
            yield {name: record[column] for column, name in wanted}


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no JSON object")
            yield row


def _json(value: Any, name: str) -> Any:
    """A list or an object, of itself or as JSON; None for an empty cell."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    with suppress(ValueError, RecursionError):
        return json.loads(value)
    raise BadValue(f"{name} is {value[:60]!r}, which is no JSON; write it as {EXAMPLES.get(name, IDS)}")


def _list(row: dict[str, Any], name: str) -> list[Any]:
    value = _json(row.get(name), name)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise BadValue(f"{name} is {value!r:.60}, which is no list; write it as {EXAMPLES.get(name, IDS)}")
    return list(value)


def _entry(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"text"}:
        return Text(value["text"])
    return _id(value, 'give ids as text, and words as {"text": "..."}')


def _id(value: Any, remedy: str = "give ids as text") -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise BadValue(f"{value!r:.60} is no id; {remedy}")


def _rating(value: Any) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise BadValue(f"the rating {value!r:.60} is no number; give a number, or null where it is unknown")


def _filter(given: Any) -> Filter | None:
    if not isinstance(given, dict):
        raise BadValue(f"filter is {given!r:.60}, which is no object; write it as {EXAMPLES['filter']}")
    if unknown := sorted(set(given) - set(FILTER_KEYS)):
        raise BadValue(f'filter has an unknown key "{unknown[0]}"; {nearest(unknown[0], FILTER_KEYS)}')
    values: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in given.items()}
    kept = {key: one for key, one in values.items() if one is not None}
    return Filter(**kept) if kept else None
