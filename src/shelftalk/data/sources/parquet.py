"""Parquet files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import polars as pl

from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import DETECTED, TextForm
from shelftalk.errors import UnreadableFile


def read(path: Path, wanted: Collection[str], form: TextForm = DETECTED) -> Table:
    """The wanted columns of a Parquet file, in the types that it stores. Raises UnreadableFile.

    The path is taken literally: brackets and asterisks in it are no pattern, and folders such as "day=1" no
    column.
    """
    try:
        file = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        names = file.collect_schema().names()
        frame = file.select([name for name in names if name in wanted]).collect()
        length = file.select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise UnreadableFile(
            f"{path.name} is truncated or no Parquet file; write or copy it again."
        ) from error
    return Table(path, names, frame, pl.int_range(1, length + 1, eager=True), "row")
