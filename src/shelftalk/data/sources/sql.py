"""Two queries as a data folder: DuckDB, any ADBC driver, any database of SQLAlchemy.

A run stands on files with a hash, and a database changes; so what the queries return is written once, and the
run reads that. Rows are read in batches.
"""

from __future__ import annotations

import datetime
import importlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from shelftalk.data.sources.frames import FILES
from shelftalk.data.sources.typed_columns import ROWS_AT_ONCE, Columns
from shelftalk.errors import BadValue, NothingLeft, SettingsError, UnreadableFile
from shelftalk.runtime.progress import OnProgress, silent
from shelftalk.runtime.run_folder import beside, space_needed


def write_queries(
    database: str, interactions: str, items: str, folder: Path, progress: OnProgress = silent
) -> dict[str, int]:
    """Write what two queries return as a folder of data; returns the rows of each.

    `database`: "duckdb:FILE", or "duckdb:" for queries over files ("SELECT * FROM 'orders/*.csv'");
    "adbc:DRIVER:URI", such as "adbc:postgresql:postgresql://..."; or an address of SQLAlchemy, such as
    "postgresql+psycopg://..." or "sqlite:///shop.db". Raises SettingsError, UnreadableFile, NothingLeft or
    BadValue.
    """
    if folder.exists() and (others := [path.name for path in folder.iterdir() if path.name not in FILES]):
        raise UnreadableFile(
            f'the folder "{folder}" holds other files ({others[0]}); choose a new one for the data.'
        )
    rows: dict[str, int] = {}
    with space_needed(folder), _opened(database) as batches_of:
        for what, query, name in zip(("interactions", "items"), (interactions, items), FILES, strict=True):
            with beside(folder / name) as part:
                rows[what] = _written(part, batches_of(query), what, progress)
    return rows


def _written(path: Path, batches: Iterator[pa.Table], what: str, progress: OnProgress) -> int:
    """The rows of a query in a Parquet file: their number."""
    writer, rows = None, 0
    try:
        for batch in batches:
            writer = writer or pq.ParquetWriter(path, batch.schema, compression="zstd")
            writer.write_table(batch)
            rows += len(batch)
            progress("import", 0, 1, f"{rows:,} rows of {what}")
    finally:
        if writer is not None:
            writer.close()
    if not rows:
        raise NothingLeft(f"the query of the {what} returns no row; correct it.")
    return rows


@contextmanager
def _opened(database: str) -> Iterator[Any]:
    """A function that runs a query and gives its rows in batches; a database's own errors become ours."""
    kind, _, rest = database.partition(":")
    try:
        if kind == "duckdb":
            yield from _duckdb(rest)
        elif kind == "adbc":
            yield from _adbc(*rest.split(":", 1))
        else:
            yield from _sqlalchemy(database)
    except ImportError as error:
        extra = {"duckdb": "duckdb", "adbc": "its ADBC driver"}.get(kind, "the driver of that database")
        raise SettingsError(
            f"the database needs a Python package that is not installed ({error}); install {extra} by pip."
        ) from error


def _duckdb(path: str) -> Iterator[Any]:
    duckdb: Any = importlib.import_module("duckdb")
    path = path.removeprefix("///")
    if path and not Path(path).is_file():
        raise UnreadableFile(f'there is no database "{path}"; correct the path.')
    try:
        with duckdb.connect(path or ":memory:", read_only=bool(path)) as connection:

            def batches(query: str) -> Iterator[pa.Table]:
                reader = connection.execute(query).to_arrow_reader(ROWS_AT_ONCE)
                return (pa.Table.from_batches([batch]) for batch in reader)

            yield batches
    except duckdb.Error as error:
        raise _refused(error) from error


def _adbc(driver: str, uri: str = "") -> Iterator[Any]:
    dbapi: Any = importlib.import_module(f"adbc_driver_{driver}.dbapi")
    try:
        with dbapi.connect(uri) as connection, connection.cursor() as cursor:

            def batches(query: str) -> Iterator[pa.Table]:
                cursor.execute(query)
                return (pa.Table.from_batches([batch]) for batch in cursor.fetch_record_batch())

            yield batches
    except dbapi.Error as error:
        raise _refused(error) from error


def _sqlalchemy(url: str) -> Iterator[Any]:
    """Rows come as Python values, so they are gathered in typed columns before they are written."""
    sqlalchemy: Any = importlib.import_module("sqlalchemy")
    try:
        engine = sqlalchemy.create_engine(url)
        with engine.connect().execution_options(stream_results=True) as connection:

            def batches(query: str) -> Iterator[pa.Table]:
                result = connection.execute(sqlalchemy.text(query))
                names = list(result.keys())
                columns = Columns(names)
                number = 0
                for part in result.partitions(ROWS_AT_ONCE):
                    for row in part:
                        number += 1
                        columns.add(number, dict(zip(names, map(_plain, row), strict=True)))
                frame, _ = columns.finish()
                mixed = next((name for name in names if frame[name].dtype == pl.Object), None)
                if mixed is not None:
                    raise BadValue(
                        f'the column "{mixed}" of a query is neither text nor numbers throughout; CAST it '
                        "to one type."
                    )
                return iter([frame.to_arrow()] if number else [])

            yield batches
        engine.dispose()
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise _refused(error) from error


def _plain(value: Any) -> Any:
    """Times and ids as text; other values as they are."""
    if isinstance(value, datetime.date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Decimal) and value == value.to_integral_value() and abs(value) < 2**63:
        return int(value)
    return value


def _refused(error: Exception) -> UnreadableFile:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return UnreadableFile(f"the database refuses ({lines[0].rstrip('.')}); correct its address or the query.")
