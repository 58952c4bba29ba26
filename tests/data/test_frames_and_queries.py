"""Frames from Python and SQL queries become a folder that reads like any other."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import shelftalk
from shelftalk.data.dataset import Dataset
from shelftalk.data.sources import DataSettings, read_dataset
from shelftalk.data.sources.sql import write_queries
from shelftalk.errors import BadValue, NothingLeft, SettingsError, UnreadableFile
from tests.end_to_end.tiny import call

EVENTS = pl.DataFrame(
    {"user_id": ["u", "u", "v"], "item_id": [1, 2, 1], "timestamp": [1, 2, 3], "rating": [4.5, None, 3.0]}
)
ITEMS = pl.DataFrame({"item_id": [1, 2], "title": ["Alpha", "Café"], "price": [None, 2.5]})
QUERIES = ("SELECT * FROM orders", "SELECT item_id, title, price FROM products")


def dataset(folder: Path) -> Dataset:
    return read_dataset(DataSettings(folder=str(folder)), seed=0)[0]


def whole(data: Dataset) -> None:
    assert sorted(data.events.select("user_id", "item_id", "timestamp", "rating").rows()) == [
        ("u", "1", 1, 4.5), ("u", "2", 2, None), ("v", "1", 3, 3.0),
    ]  # fmt: skip
    assert (data.item("2").title, data.item("2").price) == ("Café", 2.5)


@pytest.fixture
def sqlite(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE orders (user_id TEXT, item_id INTEGER, timestamp INTEGER, rating REAL)"
        )
        database.execute("CREATE TABLE products (item_id INTEGER, title TEXT, price REAL)")
        database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", EVENTS.rows())
        database.executemany("INSERT INTO products VALUES (?, ?, ?)", ITEMS.rows())
    database.close()
    return path


@pytest.mark.parametrize("kind", ["polars", "lazy", "pyarrow", "pandas"])
def test_a_frame_is_written_as_a_data_folder(tmp_path: Path, kind: str) -> None:
    def frame(of: pl.DataFrame) -> Any:
        if kind == "pandas":
            pandas = pytest.importorskip("pandas")
            return pandas.DataFrame(of.to_dict(as_series=False))
        return {"polars": of, "lazy": of.lazy(), "pyarrow": of.to_arrow()}[kind]

    folder = shelftalk.write_data(frame(EVENTS), frame(ITEMS), tmp_path / "data")
    whole(dataset(folder))
    assert shelftalk.write_data(frame(EVENTS), frame(ITEMS), folder) == folder  # it is its own


def test_times_of_pandas_are_times(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    events = pandas.DataFrame(
        {"user_id": ["u"], "item_id": ["a"], "timestamp": pandas.to_datetime(["2014-07-23T10:15:00.25"])}
    )
    items = pandas.DataFrame({"item_id": ["a"], "title": [None]})
    data = dataset(shelftalk.write_data(events, items, tmp_path / "data"))
    assert data.events.select("timestamp", "nanosecond").row(0) == (1406110500, 250_000_000)


def test_what_is_no_frame_or_has_mixed_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="the interactions are a list, and no frame"):
        shelftalk.write_data([1], ITEMS, tmp_path / "data")
    pandas = pytest.importorskip("pandas")
    mixed = pandas.DataFrame({"item_id": pandas.Series(["a", 3], dtype=object)})
    with pytest.raises(BadValue, match="the items have a column that is neither text nor numbers throughout"):
        shelftalk.write_data(EVENTS, mixed, tmp_path / "data")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UnreadableFile, match="holds other files"):
        shelftalk.write_data(EVENTS, ITEMS, tmp_path)


@pytest.mark.parametrize("kind", ["sqlalchemy", "duckdb", "duckdb files", "adbc"])
def test_queries_are_written_as_a_data_folder(tmp_path: Path, sqlite: Path, kind: str) -> None:
    queries = QUERIES
    if kind == "sqlalchemy":
        address = f"sqlite:///{sqlite}"
    elif kind == "adbc":
        pytest.importorskip("adbc_driver_sqlite")
        address = f"adbc:sqlite:{sqlite}"
    else:
        duckdb = pytest.importorskip("duckdb")
        EVENTS.write_parquet(tmp_path / "orders.parquet")
        ITEMS.write_parquet(tmp_path / "products.parquet")
        files = [f"'{tmp_path}/{name}.parquet'" for name in ("orders", "products")]
        if kind == "duckdb":
            address = f"duckdb:{tmp_path}/shop.duckdb"
            with duckdb.connect(f"{tmp_path}/shop.duckdb") as database:
                for name, file in zip(("orders", "products"), files, strict=True):
                    database.execute(f"CREATE TABLE {name} AS SELECT * FROM {file}")
        else:
            address, queries = "duckdb:", (f"SELECT * FROM {files[0]}", f"SELECT * FROM {files[1]}")
    assert write_queries(address, *queries, tmp_path / "out") == {"interactions": 3, "items": 2}
    whole(dataset(tmp_path / "out"))


def test_what_a_database_refuses_is_one_sentence(tmp_path: Path, sqlite: Path) -> None:
    addresses = [f"sqlite:///{sqlite}"]
    for module, address in (("duckdb", "duckdb:"), ("adbc_driver_sqlite", f"adbc:sqlite:{sqlite}")):
        try:
            __import__(module)
        except ImportError:
            continue
        addresses.append(address)
    for address in addresses:
        with pytest.raises(UnreadableFile, match="the database refuses .*; correct its address or the query"):
            write_queries(address, "SELECT * FROM nothing_here", QUERIES[1], tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    with pytest.raises(NothingLeft, match="the query of the interactions returns no row"):
        write_queries(addresses[0], QUERIES[0] + " WHERE item_id = 7", QUERIES[1], tmp_path / "out")
    with pytest.raises(SettingsError, match="needs a Python package that is not installed"):
        write_queries("adbc:no_such_driver:x", *QUERIES, tmp_path / "out")
    with pytest.raises(UnreadableFile, match="the database refuses"):
        write_queries("not an address", *QUERIES, tmp_path / "out")


def test_columns_of_a_database_that_are_times_or_mixed(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE orders (user_id, item_id, timestamp)")
        database.execute("INSERT INTO orders VALUES ('u', 'a', ?)", [str(datetime(2020, 1, 2))])
        database.execute("INSERT INTO orders VALUES (7, 'a', NULL)")
    database.close()
    items = "SELECT 'a' AS item_id"
    with pytest.raises(BadValue, match='the column "user_id" of a query is neither text nor numbers'):
        write_queries(f"sqlite:///{path}", "SELECT * FROM orders", items, tmp_path / "out")
    text = "SELECT CAST(user_id AS TEXT) AS user_id, item_id, '2020-01-02' AS timestamp FROM orders"
    assert write_queries(f"sqlite:///{path}", text, items, tmp_path / "out")["interactions"] == 2
    assert dataset(tmp_path / "out").events["timestamp"].unique().to_list() == [1577923200]


def test_the_command_says_what_it_wrote(tmp_path: Path, sqlite: Path) -> None:
    given = ["--database", f"sqlite:///{sqlite}", "--interactions", QUERIES[0], "--items", QUERIES[1]]
    done = call("import", *given, "--out", tmp_path / "out")
    assert done.stdout.splitlines()[0] == "3 interactions, 2 items"
    again = json.loads(call("import", *given, "--out", tmp_path / "out", "--json").stdout)
    assert again == {"folder": str(tmp_path / "out"), "rows": {"interactions": 3, "items": 2}}


def test_a_relation_of_duckdb_is_a_frame(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    relations = [duckdb.from_arrow(pa.table(frame.to_arrow())) for frame in (EVENTS, ITEMS)]
    whole(dataset(shelftalk.write_data(*relations, tmp_path / "data")))
