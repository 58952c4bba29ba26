"""Arrow files: the file format, which is Feather version 2 too, and the stream format."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import DETECTED, TextForm
from shelftalk.errors import UnreadableFile

FILE_START = b"ARROW1"
DAMAGED = (
    pa.ArrowException,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    OSError,
    ValueError,
    KeyError,
)
"""What reading a damaged file raises."""


def read(path: Path, wanted: Collection[str], form: TextForm = DETECTED) -> Table:
    """The wanted columns of an Arrow or Feather file, batch by batch, in the types that it stores. Raises
    UnreadableFile."""
    try:
        names, length, frames = [], 0, []
        for batch in _batches(path):
            names = batch.schema.names
            read = [name for name in dict.fromkeys(names) if name in wanted]
            twice = next((name for name in read if names.count(name) > 1), None)
            if twice is not None:
                raise UnreadableFile(f'{path.name} has two columns named "{twice}"; rename one of them.')
            frames.append(polars_frame(batch, read))
            length += len(batch)
    except DAMAGED as error:
        raise UnreadableFile(
            f"{path.name} is truncated or no Arrow file; write or copy it again, a Feather file in version 2."
        ) from error
    return Table(path, names, pl.concat(frames), pl.int_range(1, length + 1, eager=True), "row")


def polars_frame(batch: Any, names: Sequence[str]) -> pl.DataFrame:
    """The columns of a table or record batch that have these names, in polars. What a damaged file may hold
    is checked before: offsets would point anywhere, and metadata that is no text ends in a panic."""
    part = batch.select(names)
    part.validate(full=True)
    if not names:
        return pl.DataFrame()
    return pl.DataFrame(pa.Table.from_arrays(part.columns, names=list(names)))


def _batches(path: Path) -> Iterator[Any]:
    """The record batches; an empty one where there is none, for its columns."""
    with pa.OSFile(str(path), "rb") as file:
        if path.open("rb").read(len(FILE_START)) == FILE_START:
            reader = pa.ipc.open_file(file)
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            reader = pa.ipc.open_stream(file)
            batches = iter(reader)
        yield pa.RecordBatch.from_pylist([], reader.schema)
        yield from batches
