"""Arrow files: the file format, which is Feather version 2 too, and the stream format."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from shelftalk.data.sources.table import Table
from shelftalk.data.sources.text_files import DETECTED, TextForm
from shelftalk.errors import UnreadableFile

FILE_START = b"ARROW1"


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
            part = batch.select(read)
            part.validate(full=True)  # offsets of a damaged file would point anywhere
            frames.append(pl.DataFrame(part) if read else pl.DataFrame())
            length += len(batch)
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        KeyError,
        UnicodeDecodeError,
        pl.exceptions.PolarsError,
    ) as error:
        raise UnreadableFile(
            f"{path.name} is truncated or no Arrow file; write or copy it again, a Feather file in version 2."
        ) from error
    return Table(path, names, pl.concat(frames), pl.int_range(1, length + 1, eager=True), "row")


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
