"""Files of requests for the tests of batches."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def rows_for(items: list[str], number: int) -> list[dict[str, Any]]:
    """Requests of every kind over a catalogue."""
    rows: list[dict[str, Any]] = []
    for n in range(number):
        row: dict[str, Any] = {"user_id": f"u{n}", "history": items[n % 20 : n % 20 + n % 5]}
        if n % 7 == 3:
            row["excluded"] = items[30:33]
        if n % 11 == 5:
            row["filter"] = {"only": items[5:25]}
        rows.append(row)
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows in the format of the file's name."""
    names = ["user_id", "history", "excluded", "filter"]
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    elif path.suffix == ".parquet":
        only = [row.get("filter", {}).get("only") for row in rows]
        columns = {
            "user_id": pa.array([row["user_id"] for row in rows]),
            "history": pa.array([row["history"] for row in rows], pa.list_(pa.string())),
            "excluded": pa.array([row.get("excluded") for row in rows], pa.list_(pa.string())),
            "filter": pa.StructArray.from_arrays([pa.array(only, pa.list_(pa.string()))], ["only"]),
        }
        pq.write_table(pa.table(columns), path, row_group_size=13)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerow(names)
            for row in rows:
                cells = [row.get(name, "") for name in names]
                writer.writerow(
                    [json.dumps(cell) if isinstance(cell, list | dict) else cell for cell in cells]
                )
    return path
