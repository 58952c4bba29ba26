"""Interactions of any number, made up: users with about twenty each, few popular items and many rare ones,
times to the minute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

PER_USER = 20
USERS_AT_ONCE = 200_000
WORDS = 5000


def generate(folder: Path, rows: int, items: int, seed: int = 0) -> int:
    """Write interactions.parquet and items.parquet into a new folder; returns how many interactions there
    are, a few less than `rows`, since repeats are left out."""
    folder.mkdir(parents=True)
    written, users = 0, max(1, rows // PER_USER)
    names = np.random.default_rng([seed, 1]).permutation(items)
    writer: pq.ParquetWriter | None = None
    for start in range(0, users, USERS_AT_ONCE):
        rng = np.random.default_rng([seed, 2, start])
        frame = _events(rng, np.arange(start, min(start + USERS_AT_ONCE, users)), names)
        table = frame.to_arrow()
        writer = writer or pq.ParquetWriter(folder / "interactions.parquet", table.schema, compression="zstd")
        writer.write_table(table, row_group_size=500_000)
        written += len(frame)
    if writer is not None:
        writer.close()
    words = np.array([f"word{number}" for number in range(WORDS)])
    drawn = words[(WORDS * np.random.default_rng([seed, 3]).random((items, 4)) ** 2).astype(np.int64)]
    titles = [" ".join(row) for row in drawn.tolist()]
    ids = "B" + pl.Series(np.arange(items)).cast(pl.String)
    pl.DataFrame({"item_id": ids, "title": titles}).write_parquet(folder / "items.parquet")
    return written


def _events(rng: np.random.Generator, users: np.ndarray, names: np.ndarray) -> pl.DataFrame:
    lengths = np.maximum(5, rng.poisson(PER_USER, len(users)))
    user = np.repeat(users, lengths)
    item = (len(names) * rng.random(len(user)) ** 2.5).astype(np.int64)
    pairs = np.unique(user * len(names) + item)
    order = rng.permutation(len(pairs))
    user, item = (pairs // len(names))[order], (pairs % len(names))[order]
    return pl.DataFrame(
        {
            "user_id": pl.Series(user).cast(pl.String),
            "item_id": "B" + pl.Series(names[item]).cast(pl.String),
            "timestamp": rng.integers(1_400_000_000, 1_500_000_000, len(user)) // 60 * 60,
            "rating": rng.integers(1, 6, len(user)).astype(np.float64),
        }
    )
