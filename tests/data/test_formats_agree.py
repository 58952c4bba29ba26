"""One table, written in every format, is one dataset: no format changes a text, a rating or a fraction of a
second."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shelftalk.data.dataset import Dataset
from shelftalk.data.sources import DataSettings, read_dataset

Row = dict[str, Any]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
IDS = TEXTS.filter(lambda text: text.strip() != "")
TIMES = st.tuples(
    st.integers(-9 * 10**9, 9 * 10**9),
    st.sampled_from([0, 1, 250_000_000, 999_999_999]) | st.integers(0, 10**9 - 1),
)
RATINGS = st.none() | st.floats(-1e12, 1e12) | st.sampled_from([4.1, 0.1 + 0.2, 2.0**53])


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Interactions and items; a time is (second, nanosecond)."""
    items = draw(st.lists(IDS, min_size=1, max_size=4, unique=True))
    pairs = draw(st.lists(st.tuples(IDS, st.sampled_from(items)), min_size=1, max_size=8, unique=True))
    events = [
        {"user_id": user, "item_id": item, "timestamp": draw(TIMES), "rating": draw(RATINGS)}
        for user, item in pairs
    ]
    return events, [{"item_id": item, "title": draw(TEXTS), "price": draw(RATINGS)} for item in items]


def iso(time: tuple[int, int]) -> str:
    second, nanosecond = time
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{nanosecond:09}Z"


def unix(time: tuple[int, int]) -> str:
    return str(Decimal(time[0]) + Decimal(time[1]).scaleb(-9))


def write_delimited(separator: str) -> Callable[[list[Row], Path], None]:
    def write(rows: list[Row], path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            records = csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL)
            records.writerow(rows[0])
            records.writerows(["" if value is None else value for value in row.values()] for row in rows)

    return write


def write_json_lines(rows: list[Row], path: Path) -> None:
    def line(row: Row) -> str:
        values = {
            key: value if key == "unix" else json.dumps(value, ensure_ascii=False)
            for key, value in row.items()
        }
        return "{" + ", ".join(f'"{key}": {value}' for key, value in values.items()) + "}"

    path.write_text("\n".join(map(line, rows)), encoding="utf-8")


def write_parquet(rows: list[Row], path: Path) -> None:
    frame = pl.DataFrame(
        rows, schema_overrides={name: pl.Float64 for name in ("rating", "price") if name in rows[0]}
    )
    if "unix" in frame:
        frame = frame.with_columns(pl.col("unix").cast(pl.Decimal(38, 9)))
    if "timestamp" in frame:
        frame = frame.with_columns(
            pl.col("timestamp").str.strip_suffix("Z").str.to_datetime(time_unit="ns", time_zone="UTC")
        )
    frame.write_parquet(path)


WRITERS: dict[str, Callable[[list[Row], Path], None]] = {
    "csv": write_delimited(","),
    "tsv": write_delimited("\t"),
    "jsonl": write_json_lines,
    "parquet": write_parquet,
}


def dataset_of(ending: str, events: list[Row], items: list[Row], time_column: str) -> Dataset:
    with TemporaryDirectory() as folder:
        for stem, rows in (("interactions", events), ("items", items)):
            WRITERS[ending](rows, Path(folder) / f"{stem}.{ending}")
        columns = {"timestamp": time_column}
        given = DataSettings(folder=folder, k_core=0, catalogue="all", interactions_columns=columns)
        return read_dataset(given, seed=0)[0]


SEVENTEEN_DIGITS = {"user_id": "u", "item_id": "a", "timestamp": (16_777_216, 708_539), "rating": 0.1 + 0.2}
"""With fewer these numbers would equal their neighbours."""


@settings(max_examples=60, deadline=None)
@given(tables())
@example(([SEVENTEEN_DIGITS], [{"item_id": "a", "title": "", "price": None}]))
def test_every_format_reads_what_was_written(tables: tuple[list[Row], list[Row]]) -> None:
    events, items = tables
    true = {(row["user_id"], row["item_id"]): (*row["timestamp"], row["rating"]) for row in events}
    for column, form in (("timestamp", iso), ("unix", unix)):
        rows = [
            {
                "user_id": row["user_id"],
                "item_id": row["item_id"],
                column: form(row["timestamp"]),
                "rating": row["rating"],
            }
            for row in events
        ]
        for ending in WRITERS:
            dataset = dataset_of(ending, rows, items, column)
            columns = dataset.events.select(
                "user_id", "item_id", "timestamp", "nanosecond", "rating"
            ).iter_rows()
            assert {(user, item): tuple(rest) for user, item, *rest in columns} == true, (ending, column)
            held = {row["item_id"]: (row["title"], row["price"]) for row in items}
            assert {
                item: (dataset.item(item).title, dataset.item(item).price) for item in dataset.item_ids
            } == held, ending
            times = dataset.events.group_by("user_id").agg(moments=pl.struct("timestamp", "nanosecond"))[
                "moments"
            ]
            assert all(
                moments.to_list() == sorted(moments.to_list(), key=lambda m: tuple(m.values()))
                for moments in times
            )
