"""Data that is in Python already, as a data folder: frames of pandas, polars, pyarrow or DuckDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from shelftalk.errors import BadValue, UnreadableFile
from shelftalk.runtime.run_folder import beside, space_needed

FILES = ("interactions.parquet", "items.parquet")


def write_data(interactions: Any, items: Any, folder: str | Path) -> Path:
    """Write two frames as a folder of data, and return it: `run({"data": {"folder": str(folder)}})` reads it.

    A frame is one of polars or pandas, or anything that has columns for Apache Arrow (`__arrow_c_stream__`),
    such as a table of pyarrow or a relation of DuckDB. What the columns hold is checked when the folder is
    read, as for any file. Raises BadValue for a column of mixed types or of objects, and UnreadableFile where
    the folder holds other data or a frame is none.
    """
    folder = Path(folder)
    if folder.exists() and (others := [path.name for path in folder.iterdir() if path.name not in FILES]):
        raise UnreadableFile(
            f'the folder "{folder}" holds other files ({others[0]}); choose a new one for the data.'
        )
    frames = [_polars(frame, what) for frame, what in ((interactions, "interactions"), (items, "items"))]
    with space_needed(folder):
        for frame, name in zip(frames, FILES, strict=True):
            with beside(folder / name) as part:
                frame.write_parquet(part)
    return folder


def _polars(frame: Any, what: str) -> pl.DataFrame:
    """The frame in polars. Raises BadValue or UnreadableFile."""
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame
    if not hasattr(frame, "__arrow_c_stream__"):
        raise UnreadableFile(
            f"the {what} are a {type(frame).__name__}, and no frame; give one of pandas, polars or pyarrow."
        )
    try:
        return pl.DataFrame(pa.table(frame))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise BadValue(
            f"the {what} have a column that is neither text nor numbers throughout ({error}); give each "
            "column one type."
        ) from error
