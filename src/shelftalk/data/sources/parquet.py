"""Parquet files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from shelftalk.data.sources.arrow import DAMAGED, polars_frame
from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import DETECTED, TextForm
from shelftalk.data.sources.typed_columns import ROWS_AT_ONCE
from shelftalk.errors import UnreadableFile


def read(path: Path, wanted: Collection[str], form: TextForm = DETECTED) -> Table:
    """The wanted columns of a Parquet file, batch by batch, in the types that it stores. Raises
    UnreadableFile.

    The path is taken literally. Arrow's own reader is used: it checks the sums of pages where they are
    written, and damaged files end in an exception, where polars ends in a panic that it prints.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            read = [name for name in dict.fromkeys(names) if name in wanted]
            schema = pa.schema([file.schema_arrow.field(name) for name in read])
            frames = [polars_frame(schema.empty_table(), read)]
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=read) if read else ():
                frames.append(polars_frame(batch, read))
            length = file.metadata.num_rows
    except DAMAGED as error:
        raise UnreadableFile(
            f"{path.name} is truncated or no Parquet file; write or copy it again."
        ) from error
    frame = pl.concat(frames)
    if read and len(frame) != length:
        raise UnreadableFile(
            f"{path.name} is damaged: it holds {len(frame):,} rows and says {length:,}; write or copy it "
            "again."
        )
    return Table(path, names, frame, pl.int_range(1, length + 1, eager=True), "row")
