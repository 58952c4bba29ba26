"""What is refused in files of data: the sentence is read, the file or the setting changed as it says, and the
same data is read."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from shelftalk.data.sources import DataReport, DataSettings, read_dataset
from shelftalk.data.sources.reading import checked_events
from shelftalk.errors import DataError, SettingsError
from tests.data.test_published import META_2014, MIND, PUBLISHED, RECBOLE, save
from tests.data.test_published import read as read_published

Files = Mapping[str, str | bytes]

EVENTS = "user_id,item_id,timestamp,rating\nu,a,1,4.5\nu,b,2,3\n"
ITEMS = "item_id,title\na,Alpha\nb,Beta\n"
JSON = "".join(
    json.dumps({"user_id": "u", "item_id": item, "timestamp": time, "rating": rating}) + "\n"
    for item, time, rating in (("a", 1, 4.5), ("b", 2, 3.0))
)
ITEMS_JSON = '{"item_id": "a", "%s": %s}\n{"item_id": "b", "%s": %s}\n'
READ = [("u", "a", 1, 4.5), ("u", "b", 2, 3.0)]
"""What each pair of files says once it is corrected."""
FRAME = pl.DataFrame(
    {"user_id": ["u", "u"], "item_id": ["a", "b"], "timestamp": [1, 2], "rating": [4.5, 3.0]}
)
TITLES = pl.DataFrame({"item_id": ["a", "b"], "title": ["Alpha", "Beta"]})


def stored(folder: Path, files: Files) -> Path:
    """The folder with these files and no other."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    return save(folder, files)


def rows_of(folder: Path | None, **settings: Any) -> tuple[list[tuple[Any, ...]], DataReport]:
    source = {"folder": str(folder)} if folder else {}
    wanted = DataSettings.model_validate(source | settings)
    dataset, report = read_dataset(wanted, seed=0)
    return sorted(dataset.events.select("user_id", "item_id", "timestamp", "rating").rows()), report


def told(folder: Path | None, **settings: Any) -> str:
    with pytest.raises(DataError) as error:
        rows_of(folder, **settings)
    return str(error.value)


def written(kind: str, frame: pl.DataFrame, folder: Path) -> bytes:
    """The frame as a Parquet or Arrow file."""
    path = folder / "frame"
    frame.write_parquet(path) if kind == "parquet" else frame.write_ipc(path)
    try:
        return path.read_bytes()
    finally:
        path.unlink()


TEXTS: list[tuple[str, Files, str, Files]] = [
    (
        "an empty file",
        {"interactions.csv": "", "items.csv": ITEMS},
        "is empty; give a file with at least one row",
        {"interactions.csv": EVENTS},
    ),
    (
        "a file of blank lines",
        {"interactions.csv": "\n\n", "items.csv": ITEMS},
        "is empty; give a file with a header line and at least one row",
        {"interactions.csv": EVENTS},
    ),
    (
        "a header alone",
        {"interactions.csv": EVENTS.split("\n")[0] + "\n", "items.csv": ITEMS},
        "has columns but no rows; give a file with at least one row",
        {"interactions.csv": EVENTS},
    ),
    (
        "a hint to spreadsheet programs",
        {"interactions.csv": "sep=,\n" + EVENTS, "items.csv": ITEMS},
        'the first line, "sep=", is a hint to spreadsheet programs; remove that line',
        {"interactions.csv": EVENTS},
    ),
    (
        "a column twice",
        {"interactions.csv": EVENTS.replace("rating", "timestamp"), "items.csv": ITEMS},
        'has two columns named "timestamp"; rename one of them',
        {"interactions.csv": EVENTS},
    ),
    (
        "a cell too many",
        {"interactions.csv": EVENTS, "items.csv": ITEMS.replace("Alpha", "Alpha, the first")},
        "3 cells where the header has 2; quote cells that hold the separator",
        {"items.csv": ITEMS.replace("Alpha", '"Alpha, the first"')},
    ),
    (
        "a quote within a cell",
        {"interactions.csv": EVENTS, "items.csv": ITEMS.replace("Alpha", '"A 5" pipe"')},
        'correct the quotes: put a cell that holds a quote in quotes, with "" for each within',
        {"items.csv": ITEMS.replace("Alpha", '"A 5"" pipe"')},
    ),
    (
        "no header",
        {"interactions.csv": EVENTS.partition("\n")[2], "items.csv": ITEMS},
        "its first line seems to be data (u, a, 1, 4.5); put a line of column names above it",
        {"interactions.csv": EVENTS},
    ),
    (
        "an unknown separator",
        {"interactions.csv": EVENTS.replace(",", "^"), "items.csv": ITEMS},
        "name the columns in the first line and put commas between the cells",
        {"interactions.csv": EVENTS},
    ),
    (
        "an ending without a reader",
        {"interactions.csv": EVENTS, "items.parquet.gz": gzip.compress(b"PAR1")},
        "holds no file items with one of the endings .parquet, .csv",
        {"items.csv": ITEMS},
    ),
    (
        "a compressed file without its ending",
        {"interactions.csv": gzip.compress(EVENTS.encode()), "items.csv": ITEMS},
        'interactions.csv is compressed; add ".gz" to its name',
        {"interactions.csv.gz": gzip.compress(EVENTS.encode())},
    ),
    (
        "the ending of a compression alone",
        {"interactions.csv.gz": EVENTS, "items.csv": ITEMS},
        "or take the ending .gz off its name",
        {"interactions.csv": EVENTS},
    ),
    (
        "a compressed file that was cut off",
        {"interactions.csv.gz": gzip.compress(EVENTS.encode())[:-12], "items.csv": ITEMS},
        "is damaged (Compressed file ended before the end-of-stream marker was reached); download or copy",
        {"interactions.csv.gz": gzip.compress(EVENTS.encode())},
    ),
    (
        "an item twice in the catalogue",
        {"interactions.csv": EVENTS, "items.csv": ITEMS + "a,Alpha again\n"},
        "is on an earlier row already (1 such items); keep one row each",
        {"items.csv": ITEMS},
    ),
    (
        "an item that the catalogue lacks",
        {"interactions.csv": EVENTS, "items.csv": ITEMS.replace("b,Beta\n", "")},
        "add it to the items file, with an id alone if nothing else is known",
        {"items.csv": ITEMS.replace("Beta", "")},
    ),
    (
        "an id with a space after it",
        {"interactions.csv": EVENTS, "items.csv": ITEMS.replace("b,", "b ,")},
        "write the id alike in both files, or add it to the items file",
        {"items.csv": ITEMS},
    ),
    (
        "no id",
        {"interactions.csv": EVENTS + ",a,3,\n", "items.csv": ITEMS},
        "has no id; fill it in or remove the row",
        {"interactions.csv": EVENTS},
    ),
    (
        "a rating of words",
        {"interactions.csv": EVENTS.replace("4.5", "good"), "items.csv": ITEMS},
        "is not a number; write one such as 4.5, or leave it empty",
        {"interactions.csv": EVENTS},
    ),
    (
        "points and commas in one column",
        {"interactions.csv": EVENTS.replace(",", ";").replace("4.5", "4,5") + "v;a;1;3.0\n"}
        | {"items.csv": ITEMS},
        "has a decimal point where other rows have commas; write all numbers alike",
        {"interactions.csv": EVENTS.replace(",", ";").replace("4.5", "4,5")},
    ),
    (
        "a time that is missing in some rows",
        {"interactions.csv": EVENTS + "v,a,,2\n", "items.csv": ITEMS},
        "missing, where 2 rows have one; fill it in or remove the row (1 such rows)",
        {"interactions.csv": EVENTS},
    ),
    (
        "dates that turn into other dates",
        {"interactions.csv": EVENTS.replace(",1,", ",1970-01-01T00:00:01Z,").replace(",2,", ",1/1/1970,")}
        | {"items.csv": ITEMS},
        "is not an ISO 8601 date as in the rows above; write all times alike",
        {"interactions.csv": re.sub(r",(\d),", r",1970-01-01T00:00:0\1Z,", EVENTS)},
    ),
    (
        "seconds and milliseconds in one column",
        {"interactions.csv": EVENTS + "v,a,1406110500,\nv,b,1406110500000,\n", "items.csv": ITEMS},
        "looks like Unix seconds where other rows hold Unix milliseconds; write all times in one unit",
        {"interactions.csv": EVENTS},
    ),
    (
        "one list in place of lines",
        {"interactions.jsonl": f"[{','.join(JSON.splitlines())}]\n", "items.csv": ITEMS},
        'not a JSON object; write one object per line, for instance by "jq -c .[] FILE"',
        {"interactions.jsonl": JSON},
    ),
    (
        "one list over several lines",
        {"interactions.jsonl": "[\n" + ",\n".join(JSON.splitlines()) + "\n]\n", "items.csv": ITEMS},
        'write one object per line, for instance by "jq -c .[] FILE"',
        {"interactions.jsonl": JSON},
    ),
    (
        "a line of broken JSON",
        {"interactions.jsonl": JSON.replace('"rating": 4.5', '"rating": '), "items.csv": ITEMS},
        "correct the line.",
        {"interactions.jsonl": JSON},
    ),
    (
        "a key twice",
        {"interactions.jsonl": JSON.replace("{", '{"user_id": "v", ', 1), "items.csv": ITEMS},
        'the key "user_id" is twice in the object; keep one of them',
        {"interactions.jsonl": JSON},
    ),
    (
        "blank lines of JSON",
        {"interactions.jsonl": "\n \n", "items.csv": ITEMS},
        "is empty; give a file with one JSON object per line",
        {"interactions.jsonl": JSON},
    ),
    (
        "ids of two types",
        {"interactions.jsonl": JSON.replace('"b"', "7"), "items.csv": ITEMS},
        "is of another type than the rows above; give the column one type, text or numbers",
        {"interactions.jsonl": JSON},
    ),
    (
        "not-a-number among ids",
        {"interactions.csv": EVENTS, "items.jsonl": ITEMS_JSON % ("title", '"A"', "title", "NaN")},
        "NaN stands among texts; write null where there is no text",
        {"items.jsonl": ITEMS_JSON % ("title", '"A"', "title", "null")},
    ),
    (
        "a list of categories",
        {"interactions.csv": EVENTS, "items.jsonl": ITEMS_JSON % ("brand", '["x"]', "brand", '["y"]')},
        "store the column as text",
        {"items.jsonl": ITEMS_JSON % ("brand", '"x"', "brand", '"y"')},
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "words", "right"), [case[1:] for case in TEXTS], ids=[case[0] for case in TEXTS]
)
def test_a_text_file_corrected_as_the_sentence_says_is_read(
    tmp_path: Path, wrong: Files, words: str, right: Files
) -> None:
    folder = stored(tmp_path / "data", wrong)
    message = told(folder)
    assert words in message, message
    stems = {name.partition(".")[0] for name in right}
    kept = {name: content for name, content in wrong.items() if name.partition(".")[0] not in stems}
    assert rows_of(stored(folder, kept | dict(right)))[0] == READ


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_binary_file_corrected_as_the_sentence_says_is_read(tmp_path: Path, ending: str) -> None:
    name = f"interactions.{ending}"
    items: dict[str, str | bytes] = {"items.csv": ITEMS}
    good = written(ending, FRAME, tmp_path)
    wrong: dict[str, bytes] = {
        "write or copy it again": good[: len(good) // 2],
        "is empty; give a file with at least one row": b"",
        "store ids as text or integers": written(ending, FRAME.with_columns(user_id=pl.lit(1.0)), tmp_path),
        "is not a number; write one such as 4.5": written(
            ending, FRAME.with_columns(rating=pl.lit(True)), tmp_path
        ),
        "give a file with at least one row": written(ending, FRAME.clear(), tmp_path),
    }
    for words, content in wrong.items():
        assert words in told(stored(tmp_path / "data", {name: content} | items)), words
    assert rows_of(stored(tmp_path / "data", {name: good} | items))[0] == READ
    titles = written(ending, TITLES.with_columns(title=pl.Series([["x"], ["y"]])), tmp_path)
    stored(tmp_path / "data", {name: good, f"items.{ending}": titles})
    assert "store the column as text (join several values into one)" in told(tmp_path / "data")
    stored(tmp_path / "data", {name: good, f"items.{ending}": written(ending, TITLES, tmp_path)})
    assert rows_of(tmp_path / "data")[0] == READ


def test_a_compressed_binary_file_is_read_once_it_is_decompressed_and_renamed(tmp_path: Path) -> None:
    good = written("parquet", FRAME, tmp_path)
    stored(tmp_path / "data", {"interactions.parquet.gz": gzip.compress(good), "items.csv": ITEMS})
    path = tmp_path / "data" / "interactions.parquet.gz"
    message = told(None, interactions=str(path), items=str(tmp_path / "data" / "items.csv"))
    ending = re.findall(r"decompress it and take (\.\w+) off its name", message)[0]
    path.with_name(path.name.removesuffix(ending)).write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
    assert rows_of(tmp_path / "data")[0] == READ


def test_a_file_of_another_program_is_read_in_each_format_that_is_named(tmp_path: Path) -> None:
    stored(tmp_path / "data", {"interactions.xlsx": b"PK\x03\x04", "items.csv": ITEMS})
    named = {name: str(tmp_path / "data" / name) for name in ("interactions.xlsx", "items.csv")}
    message = told(None, interactions=named["interactions.xlsx"], items=named["items.csv"])
    endings = re.findall(r"convert it to one of (.+)\.$", message)[0].split(", ")
    contents: dict[str, str | bytes] = {
        ".csv": EVENTS,
        ".tsv": EVENTS.replace(",", "\t"),
        ".parquet": written("parquet", FRAME, tmp_path),
        **dict.fromkeys((".arrow", ".feather", ".ipc"), written("arrow", FRAME, tmp_path)),
        **dict.fromkeys((".jsonl", ".ndjson", ".json"), JSON),
    }
    for ending in endings:
        stored(tmp_path / "data", {f"interactions{ending}": contents[ending], "items.csv": ITEMS})
        assert rows_of(tmp_path / "data")[0] == READ, ending


# --- settings that a sentence names ----------------------------------------------------------------------


def set_as(message: str) -> dict[str, Any]:
    """The settings that a sentence tells to set, as in `set data.order = "timestamp"`."""
    changed: dict[str, Any] = {}
    for path, value in re.findall(r'data\.([\w.]+) = "([^"]+)"', message):
        *tables, name = path.split(".")
        table = changed
        for one in tables:
            table = table.setdefault(one, {})
        table[name] = value
    return changed


@pytest.mark.parametrize(
    ("events", "items"),
    [
        (EVENTS.replace("user_id", "userID"), ITEMS),  # the nearest of another name
        (EVENTS, ITEMS.replace("item_id", "itemid")),
        (EVENTS.replace("timestamp", "purchase_date"), ITEMS),
    ],
)
def test_a_column_of_another_name_is_read_with_the_setting_that_is_named(
    tmp_path: Path, events: str, items: str
) -> None:
    stored(tmp_path / "data", {"interactions.csv": events, "items.csv": items})
    changed = set_as(told(tmp_path / "data"))
    assert changed and rows_of(tmp_path / "data", **changed)[0] == READ


def test_of_columns_with_other_names_the_one_that_is_meant_is_set(tmp_path: Path) -> None:
    stored(tmp_path / "data", {"interactions.csv": EVENTS.replace("user_id", "x"), "items.csv": ITEMS})
    message = told(tmp_path / "data")  # "item_id" is nearer, but is the item's already
    held, setting = re.findall(r"it has (.+); set data\.(\S+) to the one that is meant", message)[0]
    table, name = setting.split(".")
    assert "x" in held.split(", ")
    assert rows_of(tmp_path / "data", **{table: {name: "x"}})[0] == READ


def test_times_that_are_empty_are_filled_in_or_found_in_another_column(tmp_path: Path) -> None:
    empty = "user_id,item_id,timestamp,rating,day\nu,a,,4.5,1\nu,b,,3,2\n"
    stored(tmp_path / "data", {"interactions.csv": empty, "items.csv": ITEMS})
    message = told(tmp_path / "data")
    assert "fill it in, or set data.interactions_columns.timestamp to another column" in message
    assert rows_of(tmp_path / "data", interactions_columns={"timestamp": "day"})[0] == READ
    stored(tmp_path / "data", {"interactions.csv": EVENTS, "items.csv": ITEMS})
    assert rows_of(tmp_path / "data")[0] == READ


@pytest.mark.parametrize("position", ["1.5", "x", ""])
def test_a_position_that_is_none_is_corrected_or_left_for_the_times(tmp_path: Path, position: str) -> None:
    placed = "user_id,item_id,timestamp,rating,position\nu,a,1,4.5,1\nu,b,2,3,{}\n"
    stored(tmp_path / "data", {"interactions.csv": placed.format(position), "items.csv": ITEMS})
    message = told(tmp_path / "data")
    assert "write one in every row" in message or "fill it in or remove the row" in message
    assert rows_of(tmp_path / "data", **set_as(message))[0] == READ
    stored(tmp_path / "data", {"interactions.csv": placed.format("2"), "items.csv": ITEMS})
    assert rows_of(tmp_path / "data")[0] == READ


def test_an_order_that_the_file_lacks_is_left_out_or_filled_in(tmp_path: Path) -> None:
    stored(tmp_path / "data", {"interactions.csv": EVENTS, "items.csv": ITEMS})
    message = told(tmp_path / "data", order="position")
    assert "leave data.order out, or fill the column in" in message
    assert rows_of(tmp_path / "data")[0] == READ
    filled = EVENTS.replace("rating\n", "rating,position\n").replace("4.5", "4.5,1").replace("3\n", "3,2\n")
    stored(tmp_path / "data", {"interactions.csv": filled, "items.csv": ITEMS})
    assert rows_of(tmp_path / "data", order="position")[0] == READ


def test_notes_on_the_order_name_a_setting_that_orders_so(tmp_path: Path) -> None:
    placed = "user_id,item_id,timestamp,position\nu,a,1,{}\nu,b,3,{}\nu,c,2,3\n"
    for positions, column in (((2, 2), "position"), ((1, 2), "timestamp")):
        stored(
            tmp_path / "data", {"interactions.csv": placed.format(*positions), "items.csv": ITEMS + "c,C\n"}
        )
        (note,) = rows_of(tmp_path / "data")[1].notes
        changed = set_as(note)
        assert changed == {"order": column}
        ordered = rows_of(tmp_path / "data", **changed)[1]
        assert ordered.ordered_by.startswith(column)
        assert not any("data.order" in note for note in ordered.notes)


def test_an_encoding_is_named_from_the_sentence_or_the_file_corrected(tmp_path: Path) -> None:
    cyrillic: dict[str, str | bytes] = {
        "interactions.csv": EVENTS,
        "items.csv": ITEMS.replace("Alpha", "Чай").encode("cp1251"),
    }
    stored(tmp_path / "data", cyrillic)
    message = told(tmp_path / "data")
    named = re.findall(r'data.encoding, such as "([\w-]+)" or "([\w-]+)"', message)[0]
    assert rows_of(tmp_path / "data", encoding=named[0])[0] == READ
    with pytest.raises(ValidationError) as error:
        DataSettings(encoding="windows1251x")
    named = re.findall(r'such as "(\S+)" or "(\S+)"', str(error.value))[0]
    assert all(DataSettings(encoding=name) for name in named)
    stored(tmp_path / "data", cyrillic | {"items.csv": "item_id,title\na,Grün\nb,Blau\n".encode("latin-1")})
    _, report = rows_of(tmp_path / "data")
    assert "set data.encoding if it is in another" in report.notes[0]
    assert not rows_of(tmp_path / "data", encoding="latin-1")[1].notes


@pytest.mark.parametrize(
    ("wrong", "words", "right"),
    [
        ({"folder": " "}, "name a file or a folder, or leave the setting out", [{"folder": "x"}, {}]),
        (
            {"interactions": "a.csv"},
            "belong together; set both or neither",
            [{"interactions": "a.csv", "items": "b.csv"}, {}],
        ),
        (
            {"folder": "x", "bundled": "movielens-small"},
            "data.folder and data.bundled name two sources; set one of them",
            [{"folder": "x"}, {"bundled": "movielens-small"}],
        ),
        (
            {"layout": "movielens-1m"},
            "set both, or leave data.layout out",
            [{"folder": "x", "layout": "movielens-1m"}, {}],
        ),
        (
            {"folder": "x", "layout": "movielens-1n"},
            'did you mean "movielens-1m"',
            [{"folder": "x", "layout": "movielens-1m"}],
        ),
        (
            {"filters": {"since": "2015-01-01", "until": "2014-01-01"}},
            "exchange them",
            [{"filters": {"since": "2014-01-01", "until": "2015-01-01"}}],
        ),
        (
            {"filters": {"since": "July"}},
            'write one such as "2014-07-23"',
            [{"filters": {"since": "2014-07-23"}}],
        ),
    ],
)
def test_settings_of_data_corrected_as_the_sentence_says_are_taken(
    wrong: dict[str, Any], words: str, right: list[dict[str, Any]]
) -> None:
    with pytest.raises(ValidationError) as error:
        DataSettings.model_validate(wrong)
    assert words in str(error.value)
    assert all(DataSettings.model_validate(one) for one in right)


def test_a_filter_that_leaves_nothing_or_lacks_its_column_is_loosened_or_left_out(tmp_path: Path) -> None:
    stored(tmp_path / "data", {"interactions.csv": EVENTS, "items.csv": ITEMS})
    message = told(tmp_path / "data", filters={"min_rating": 5.0})
    assert "leaves nothing of 2 interactions; loosen it" in message
    assert rows_of(tmp_path / "data", filters={"min_rating": 3.0})[0] == READ
    message = told(tmp_path / "data", k_core=3)
    most = int(re.findall(r"set data.k_core = (\d+) or less", message)[0])
    assert rows_of(tmp_path / "data", k_core=most)[0] == READ
    stars = EVENTS.replace("rating", "stars")
    stored(tmp_path / "data", {"interactions.csv": stars, "items.csv": ITEMS})
    message = told(tmp_path / "data", filters={"min_rating": 3.0})
    assert "leave it out, or name the column in data.interactions_columns.rating" in message
    named = {"interactions_columns": {"rating": "stars"}}
    assert rows_of(tmp_path / "data", **named, filters={"min_rating": 3.0})[0] == READ
    assert len(rows_of(tmp_path / "data")[0]) == 2
    placed = "user_id,item_id,position,timestamp,rating\nu,a,1,1,4.5\nu,b,2,{},3\n"
    stored(tmp_path / "data", {"interactions.csv": placed.format(""), "items.csv": ITEMS})
    message = told(tmp_path / "data", filters={"since": "1960-01-01"})
    assert "leave them out, or fill the column in" in message
    assert len(rows_of(tmp_path / "data")[0]) == 2
    stored(tmp_path / "data", {"interactions.csv": placed.format("2"), "items.csv": ITEMS})
    assert rows_of(tmp_path / "data", filters={"since": "1960-01-01"})[0] == READ


# --- published data sets ---------------------------------------------------------------------------------

SHELF = PUBLISHED["goodreads"]["goodreads_interactions_poetry.json.gz"]
assert isinstance(SHELF, bytes)
PUBLISHED_FILES: list[tuple[str, str, bytes, str]] = [
    ("movielens-1m", "ratings.dat", b"1::1193::5\n", "3 cells where each row has 4"),
    ("movielens-100k", "u.data", b"196 242 3 881250949\n", "1 cells where each row has 4"),
    ("amazon-2014", "meta_Beauty.json.gz", b"{'asin': '0000013714'\n", "no dict in Python's notation ("),
    (
        "amazon-2014",
        "meta_Beauty.json.gz",
        META_2014.encode() + b"[]\n",
        "no dict in Python's notation; correct the line",
    ),
    (
        "goodreads",
        "goodreads_interactions_poetry.json.gz",
        gzip.decompress(SHELF).replace(b"Mon Aug 19 10:30:44 -0700 2013", b"2013-08-19"),
        'is not a time such as "Sun Jul 30',
    ),
    ("mind", "behaviors.tsv", b"1\tU1\t2019-11-11 09:05\t\tN55689-1\n", 'is not a time such as "11/11/2019'),
    (
        "mind",
        "behaviors.tsv",
        b"1\tU1\t11/11/2019 9:05:58 AM\t\tN55689\n",
        "use the part of MIND that has labels",
    ),
    ("recbole", "ml.inter", b"user_id\titem_id\n196\t242\n", "correct the first line"),
    ("recbole", "ml.inter", b"uid:token\titem_id:token\n196\t242\n", "rename the one that is meant"),
    ("s3rec", "Beauty.txt", b"1 1 2 3\n3 3 1\n", "user 3 follows user 1"),
    ("s3rec", "Beauty.txt", b"1 1 2 3\n2\n", "correct the line, or copy the file again"),
    ("p5", "sequential_data.txt", b"1 1 9\n2 2 3\n", "copy both files again, from one source"),
    ("p5", "datamaps.json", b"[1]", "is not a JSON object; copy the file again"),
    ("p5", "datamaps.json", b"{", "copy the file again"),
]


@pytest.mark.parametrize(("name", "file", "content", "words"), PUBLISHED_FILES)
def test_a_file_of_a_published_data_set_corrected_or_copied_again_is_read(
    tmp_path: Path, name: str, file: str, content: bytes, words: str
) -> None:
    wrong = gzip.compress(content) if file.endswith(".gz") else content
    folder = save(tmp_path / "set", {**PUBLISHED[name], file: wrong})
    with pytest.raises(DataError) as error:
        read_published(folder, layout=name)
    assert words in str(error.value), error.value
    save(folder, {file: PUBLISHED[name][file]})
    assert len(read_published(folder, layout=name)[0].events)


def test_a_folder_is_of_the_layout_that_is_named_or_the_layout_left_out(tmp_path: Path) -> None:
    folder = save(tmp_path / "set", MIND)
    with pytest.raises(DataError) as error:
        read_published(folder, layout="recbole")
    assert "put them there, or leave data.layout out" in str(error.value)
    assert read_published(folder)[0].item("N42782").title == "B"
    save(folder, RECBOLE)
    assert read_published(folder, layout="recbole")[0].item("302").title == "L.A. Confidential"


def test_two_data_sets_are_read_from_folders_of_their_own(tmp_path: Path) -> None:
    folder = save(tmp_path / "set", {"a.inter": RECBOLE["ml.inter"], "b.inter": RECBOLE["ml.inter"]})
    with pytest.raises(DataError) as error:
        read_published(folder)
    one, other = re.findall(r"holds both (\S+) and (\S+), and", str(error.value))[0]
    assert "keep each data set in a folder of its own" in str(error.value)
    (tmp_path / "other").mkdir()
    (folder / other).rename(tmp_path / "other" / other)
    assert len(read_published(folder)[0].events) == len(read_published(tmp_path / "other")[0].events) == 1
    assert (folder / one).exists()


@pytest.mark.parametrize(
    ("file", "theirs", "other"),
    [
        ("ratings.csv", "userId", "user"),
        ("ratings.csv", "timestamp", "time"),
        ("movies.csv", "movieId", "movie"),
    ],
)
def test_other_columns_of_a_published_data_set_are_copied_again_or_named(
    tmp_path: Path, file: str, theirs: str, other: str
) -> None:
    """Settings that name columns are not read with a layout, so the sentence names none alone."""
    good = PUBLISHED["movielens-csv"]
    changed = str(good[file]).replace(theirs, other)
    folder = stored(tmp_path / "set", {**good, file: changed})
    message = told(folder)
    named = re.findall(r"data\.(\w+)", message)
    assert "copy it again as it was published" in message
    columns = {
        "interactions_columns": {"user_id": "userId", "item_id": "movieId"},
        "items_columns": {"item_id": "movieId"},
    }
    ours = {"userId": "user_id", "movieId": "item_id", "timestamp": "timestamp"}[theirs]
    table = "interactions_columns" if file == "ratings.csv" else "items_columns"
    columns[table][ours] = other
    files = {"interactions": str(folder / "ratings.csv"), "items": str(folder / "movies.csv")}
    settings = {name: (files | columns)[name] for name in named}
    assert len(settings) == 4 and len(rows_of(None, **settings)[0]) == 2
    assert len(rows_of(stored(folder, good))[0]) == 2


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("layout", ["movielens-csv", "amazon-2014", "recbole"])
def test_columns_named_for_a_published_data_set_are_left_out(
    tmp_path: Path, layout: str, named: bool
) -> None:
    """A layout has columns of its own: names that were set were ignored."""
    folder = stored(tmp_path / "set", PUBLISHED[layout])
    settings: dict[str, Any] = {"layout": layout} if named else {}
    settings |= {"interactions_columns": {"user_id": "userId"}, "items_columns": {"title": "name"}}
    for _ in range(2):
        with pytest.raises(SettingsError) as error:
            rows_of(folder, **settings)
        del settings[re.findall(r"leave data\.(\w+) out", str(error.value))[0]]
    assert rows_of(folder, **settings)[0] == rows_of(folder)[0]


@pytest.mark.parametrize("wrong", ["item_no", "x"])
def test_a_column_of_a_file_that_is_appended_is_renamed_since_nothing_can_be_set(
    tmp_path: Path, wrong: str
) -> None:
    settings, path = DataSettings(interactions_columns={"item_id": "item"}), tmp_path / "new.csv"
    path.write_text(EVENTS.replace("item_id", wrong))
    with pytest.raises(DataError) as error:
        checked_events(path, settings)
    message = str(error.value)
    missing = re.findall(r'has no column "(\w+)"', message)[0]
    assert "rename" in message and "set " not in message, message
    path.write_text(path.read_text().replace(wrong, missing))
    assert checked_events(path, settings)["item_id"].to_list() == ["a", "b"]
