"""Sequences as S3-Rec and P5 publish them: a line for each user, its number and those of its items in order.

Users are numbered 1, 2, 3 ... in the order of the lines; a line that is missing, or one that two lines
became, shows as a number that is left out, and is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from shelftalk.data.sources.layouts import Files
from shelftalk.data.sources.published import amazon
from shelftalk.data.sources.published.rows import SET, Counts, items_of, table_of
from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import TextForm, open_binary, open_text, read_text
from shelftalk.errors import UnreadableFile

TAKEN = ("user_id", "item_id", "position")


def are_sequences(files: Files) -> bool:
    """Whether the first line is numbers: of a user and at least one item."""
    with open_binary(files["interactions"]) as file:
        first = file.readline(10_000).split()
    return len(first) > 1 and all(number.isdigit() for number in first)


def interactions_s3rec(files: Files, form: TextForm) -> Table:
    """NAME.txt of S3-Rec: the numbers are the ids. Items are numbered 1, 2, 3 ... too, so that one beyond
    their count is noted."""
    table = _sequences(files["interactions"], form, {}, {})
    items = table.frame["item_id"].unique()
    beyond = items.filter(items.str.len_chars() > 18)
    beyond = beyond if len(beyond) else items.filter(items.cast(pl.Int64, strict=False) > len(items))
    if len(beyond):
        row = table.frame["item_id"].is_in(beyond.implode()).arg_true()[0]
        example = f'"{table.frame["item_id"][row]}" in line {table.row_numbers[row]}'
        table.notes.append(
            f"{table.path.name}: {len(beyond):,} items have a number beyond {len(items):,}, the number of "
            f"items, for instance {example}; in the published files none has."
        )
    return table


def items_s3rec(files: Files, form: TextForm) -> Table:
    """The items of the sequences, with the numbers of their attributes where NAME_item2attributes.json is
    there: S3-Rec publishes no names."""
    table = items_of(interactions_s3rec(files, form))
    if "attributes" not in files:
        return table
    attributes = _mapping(files["attributes"])
    rows = (
        (line, {"item_id": item, "categories": _attributes(attributes.get(item))})
        for line, item in zip(table.row_numbers, table.frame["item_id"], strict=True)
    )
    read = table_of(table.path, ("item_id", "categories"), rows, Counts(table.path))
    read.notes.append(
        f"{files['attributes'].name}: attributes are numbers without names, and stand as categories."
    )
    if without := sorted(set(attributes) - set(table.frame["item_id"])):
        read.notes.append(
            f"{table.path.name}: {len(without):,} items of {files['attributes'].name} are in no sequence, "
            f'for instance "{without[0]}"; in the published files each is.'
        )
    return read


def interactions_p5(files: Files, form: TextForm) -> Table:
    """sequential_data.txt of P5; datamaps.json has the ids that its numbers stand for."""
    users, items = _names(files)
    return _sequences(files["interactions"], form, users, items)


def items_p5(files: Files, form: TextForm) -> Table:
    """The items of the sequences; with meta.json beside, the texts of Amazon's metadata."""
    if "meta" in files:
        return amazon.items({"interactions": files["interactions"], "items": files["meta"]}, form)
    return items_of(interactions_p5(files, form))


def _sequences(path: Path, form: TextForm, users: dict[str, str], items: dict[str, str]) -> Table:
    def read(encoding: str) -> Table:
        counts = Counts(path)
        return table_of(path, TAKEN, _rows(path, encoding, users, items, counts), counts)

    return read_text(path, form, read)


def _rows(
    path: Path, encoding: str, users: dict[str, str], items: dict[str, str], counts: Counts
) -> Iterator[tuple[int, dict[str, Any]]]:
    before = 0
    with open_text(path, encoding) as file:
        for line, text in enumerate(file, start=1):
            row = text.rstrip("\r\n ").split(" ")
            if row == [""]:
                continue
            counts.rows += 1
            if text.rstrip("\r\n").endswith(" "):
                counts.add("end with a space, after which a number may be missing", line)
            wrong = next((one for one in row if not (one.isascii() and one.isdigit())), None)
            if wrong is not None or len(row) < 2:
                held = f'"{wrong}" is no number' if wrong is not None else "there is a user and no item"
                raise UnreadableFile(
                    f"{path.name}, line {line}: {held}, and a line has the number of a user and those of its "
                    "items, each after one space; correct the line, or copy the file again."
                )
            if int(row[0]) != before + 1:
                raise UnreadableFile(
                    f"{path.name}, line {line}: user {row[0]} follows user {before}, and users are numbered "
                    "1, 2, 3 ... in the order of the lines; correct the line, or copy the file again."
                )
            before += 1
            user = _named(users, row[0], "user", path, line)
            for position, item in enumerate(row[1:]):
                name = _named(items, item, "item", path, line)
                yield line, {"user_id": user, "item_id": name, "position": position}


def _named(names: dict[str, str], number: str, what: str, path: Path, line: int) -> str:
    """The id that a number stands for; the number itself where there are no ids. Raises UnreadableFile."""
    if names and number not in names:
        raise UnreadableFile(
            f"{path.name}, line {line}: the {what} {number} is not in datamaps.json; copy both files again, "
            "from one source."
        )
    return names.get(number, number)


def _names(files: Files) -> tuple[dict[str, str], dict[str, str]]:
    """Number -> id of users and of items; empty without datamaps.json."""
    if "maps" not in files:
        return {}, {}
    maps = _mapping(files["maps"])
    return maps.get("id2user", {}), maps.get("id2item", {})


def _mapping(path: Path) -> dict[str, Any]:
    """The one JSON object of a file. Raises UnreadableFile."""
    try:
        with open_binary(path) as file:
            held = json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"{path.name} is broken JSON ({error}); copy the file again.") from error
    if not isinstance(held, dict):
        raise UnreadableFile(f"{path.name} is not a JSON object; copy the file again.")
    return held


def _attributes(numbers: Any) -> str | None:
    return SET.join(f"attribute {number}" for number in numbers) if isinstance(numbers, list) else None
