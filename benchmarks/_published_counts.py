"""The published counts of Amazon Beauty and Sports, from the Parquet files and from S3-Rec's own format."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.harness import Claim, data_hash
from shelftalk.data.protocol import SplitSettings
from shelftalk.data.sources import DataSettings, read_dataset
from shelftalk.data.splitting import split_dataset

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SETS = {
    "Beauty": (
        Path(os.environ.get("SHELFTALK_BEAUTY", SHARED / "beauty")),
        {"users": 22_363, "items": 12_101, "interactions": 198_502, "training pairs": 131_413},
    ),
    "Sports": (
        Path(os.environ.get("SHELFTALK_SPORTS", SHARED / "sports-untitled")),
        {"users": 35_598, "items": 18_357, "interactions": 296_337, "training pairs": 189_543},
    ),
}
"""Data set -> its folder, and the counts that S3-Rec, P5 and TIGER print."""
COUNTS_CLAIM = "Beauty and Sports have the published counts from Parquet and from S3-Rec's files, exactly"
SAME_CLAIM = "Both formats give the same sequences, user by user"
SEED = 0


def published_counts() -> tuple[list[Claim], list[dict[str, Any]], dict[str, str]]:
    """The claims, a row per data set and format, and the hashes of the data. Ends the program where the data
    is not there."""
    rows, hashes, same = [], {}, []
    for name, (folder, published) in SETS.items():
        if not folder.is_dir():
            raise SystemExit(f"{name} is not on this machine; name its folder in SHELFTALK_{name.upper()}.")
        hashes[name] = data_hash([folder / "interactions.parquet", folder / "items.parquet"])
        with tempfile.TemporaryDirectory() as scratch:
            numbers = _write_s3rec(folder, Path(scratch) / f"{name}.txt")
            sequences = []
            for form, where in (("Parquet", folder), ("S3-Rec", Path(scratch))):
                counts, read = _counts(where)
                sequences.append(read)
                rows.append({"data": name, "format": form, **counts, "as published": counts == published})
        named = {user: [numbers[item] for item in items] for user, items in sequences[0].items()}
        same.append(named == sequences[1])
    right = sum(row["as published"] for row in rows)
    claims = [
        Claim(COUNTS_CLAIM, f"{right} of {len(rows)}", f"{len(rows)} of {len(rows)}", right == len(rows)),
        Claim(SAME_CLAIM, f"{sum(same)} of {len(same)}", f"{len(same)} of {len(same)}", all(same)),
    ]
    return claims, rows, hashes


def _write_s3rec(folder: Path, path: Path) -> dict[str, str]:
    """The sequences in S3-Rec's format, by its own numbers of users and items; returns item id -> number."""
    items = pl.read_parquet(folder / "items.parquet", columns=["item_id", "s3rec_item"])
    numbers = dict(zip(items["item_id"], items["s3rec_item"].cast(pl.String), strict=True))
    events = pl.read_parquet(folder / "interactions.parquet").sort("user_id", "position")
    lines = events.with_columns(pl.col("item_id").replace_strict(numbers)).group_by(
        "user_id", maintain_order=True
    ).agg(pl.col("item_id").str.join(" "))  # fmt: skip
    path.write_text("".join(f"{user} {sequence}\n" for user, sequence in lines.rows()))
    return numbers


def _counts(folder: Path) -> tuple[dict[str, int], dict[str, list[str]]]:
    """What is read of a folder, and each user's items in order. Training pairs are an item and the one before
    it, both before the last two of the user."""
    settings = DataSettings(folder=str(folder), k_core=5, catalogue="interacted", order="position")
    dataset, _ = read_dataset(settings, SEED)
    split = split_dataset(dataset, SplitSettings(), SEED)
    training = np.diff(split.training_bounds, axis=1)[:, 0]  # [U] training events of each user
    counts = {
        "users": len(dataset.user_ids),
        "items": len(dataset.items),
        "interactions": len(dataset.events),
        "training pairs": int(np.maximum(training - 1, 0).sum()),
    }
    grouped = dataset.events.group_by("user_id", maintain_order=True).agg("item_id")
    return counts, dict(grouped.rows())
