"""Files as people have them: odd paths, other separators and encodings, cells of any length."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from shelftalk.data.dataset import Dataset
from shelftalk.data.sources import DataReport, DataSettings, read_dataset
from shelftalk.data.sources.locating import source_hashes
from shelftalk.errors import DataError
from shelftalk.testing.worlds import tiny_world

EVENTS = "user_id,item_id,timestamp,rating\nu,a,1,4.5\nu,b,2,\n"
ITEMS = "item_id,title\na,Alpha\nb,Beta\n"


def read(
    folder: Path, events: str | bytes = EVENTS, items: str | bytes = ITEMS, ending: str = "csv"
) -> tuple[Dataset, DataReport]:
    for stem, content in (("interactions", events), ("items", items)):
        content = content.encode() if isinstance(content, str) else content
        (folder / f"{stem}.{ending if stem == 'interactions' else 'csv'}").write_bytes(content)
    return read_dataset(DataSettings(folder=str(folder), k_core=0), seed=0)


def refusal(folder: Path, events: str | bytes, ending: str = "csv") -> str:
    with pytest.raises(DataError) as caught:
        read(folder, events, ending=ending)
    return str(caught.value)


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def rows(dataset: Dataset) -> list[tuple[object, ...]]:
    return dataset.events.select("user_id", "item_id", "timestamp", "rating").rows()


TRUE = [("u", "a", 1, 4.5), ("u", "b", 2, None)]


@pytest.mark.parametrize("name", ["[2020]", "a*b?", "100%25 of it", "two words", "día=1", "~", "day=1"])
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_path_is_the_file_that_it_names(
    tmp_path: Path, name: str, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = tiny_world(users=4, items=20)
    folder = tmp_path / name
    folder.mkdir()
    for stem, frame in (("interactions", world.events.drop("position")), ("items", world.items)):
        file = folder / f"{stem} {name}.{ending}"
        frame.write_parquet(file) if ending == "parquet" else frame.write_csv(file)
    files = {stem: str(folder / f"{stem} {name}.{ending}") for stem in ("interactions", "items")}
    assert (
        read_dataset(DataSettings(**files, k_core=0, catalogue="all"), seed=0)[0].fingerprint()
        == world.fingerprint()
    )


def test_links_and_the_home_folder_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path, target_is_directory=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (str(tmp_path / "linked"), "~", "~/linked"):
        assert rows(read_dataset(DataSettings(folder=folder, k_core=0), seed=0)[0]) == TRUE


def test_what_is_no_file_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for name, fault in (
        (".", "is a folder"),
        ("pipe.csv", "write it into a file first"),
        ("gone.csv", "there is no file"),
    ):
        given = DataSettings(interactions=str(tmp_path / name), items=str(tmp_path / name))
        for way_in in (
            lambda given=given: read_dataset(given, seed=0),
            lambda given=given: source_hashes(given),
        ):
            with pytest.raises(DataError, match=fault):
                way_in()


@pytest.mark.parametrize("length", [131_072, 131_073, 1_000_000])
def test_a_cell_may_be_of_any_length(tmp_path: Path, length: int) -> None:
    before = csv.field_size_limit()
    dataset, _ = read(tmp_path, items=f"item_id,title,html\na,{'x' * length},{'<p>' * length}\nb,Beta,\n")
    assert len(dataset.item("a").title) == length and csv.field_size_limit() == before


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_another_separator_is_read_and_noted(tmp_path: Path, separator: str, name: str) -> None:
    dataset, report = read(tmp_path, EVENTS.replace(",", separator))
    assert rows(dataset) == TRUE
    assert report.notes == [f"interactions.csv is separated by {name}, not commas, and was read so."]


def test_a_tsv_of_commas_is_read_and_noted(tmp_path: Path) -> None:
    dataset, report = read(tmp_path, ending="tsv")
    assert rows(dataset) == TRUE and report.notes == [
        "interactions.tsv is separated by commas, not tabs, and was read so."
    ]


def test_the_usual_separator_wins_where_both_would_do(tmp_path: Path) -> None:
    dataset, report = read(tmp_path, items='item_id,title,"b;c|d"\na,one;two|three,\nb,,\n')
    assert dataset.item("a").title == "one;two|three" and report.notes == []


def test_decimal_commas_are_read_where_semicolons_separate_and_noted(tmp_path: Path) -> None:
    events = EVENTS.replace(",", ";").replace("4.5", "4,5")
    dataset, report = read(tmp_path, events)
    assert rows(dataset) == TRUE
    assert report.notes[1] == (
        'interactions.csv, column "rating": 1 of 2 values have a decimal comma, for instance "4,5" '
        "in line 2, read as 4.5."
    )
    assert '"4.5" has a decimal point where other rows have commas' in refusal(
        tmp_path, events + "v;a;1;4.5\n"
    )
    assert '"1,234,5" is not a number' in refusal(tmp_path, events + "v;a;1;1,234,5\n")


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(tmp_path: Path, ends: str) -> None:
    assert rows(read(tmp_path, EVENTS.replace("\n", ends))[0]) == TRUE


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "windows-1252"])
def test_another_encoding_is_detected_and_noted(tmp_path: Path, encoding: str, ending: str) -> None:
    text = (
        '{"user_id": "é", "item_id": "a", "timestamp": 1}\n'
        if ending == "jsonl"
        else EVENTS.replace("u,a", "é,a")
    )
    dataset, report = read(tmp_path, text.encode(encoding), ending=ending)
    name = {"utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE"}.get(encoding, encoding.upper())
    line = 1 if ending == "jsonl" else 2
    assert "é" in dataset.user_ids
    if encoding == "windows-1252":
        assert "is not UTF-8 and was read as Windows-1252" in report.notes[0]
        assert f"in line {line}; set data.encoding if it is in another" in report.notes[0]
    else:
        assert report.notes[0] == f"interactions.{ending} is in {name}, and was read so."


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("Война и мир", "windows-1251"), ("三体", "gb18030"), ("吾輩は猫である", "shift-jis")],
)
def test_an_encoding_that_cannot_be_detected_is_refused_and_naming_it_helps(
    tmp_path: Path, text: str, encoding: str
) -> None:
    items = ITEMS.replace("Alpha", text).encode(encoding)
    with pytest.raises(DataError, match="items.csv is not UTF-8 text: line 2 holds the byte 0x") as caught:
        read(tmp_path, items=items)
    assert "name its encoding in data.encoding" in str(caught.value)
    given = DataSettings(folder=str(tmp_path), k_core=0, encoding=encoding)
    assert read_dataset(given, seed=0)[0].item("a").title == text


def test_a_damaged_line_of_utf_8_is_no_other_encoding(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="items.csv is not UTF-8 text: line 3 holds the byte 0xC3; correct"):
        read(tmp_path, items="item_id,title\na,Café\n".encode() + b"b,Caf\xc3\n")


def test_a_given_encoding_that_is_not_the_files_is_refused(tmp_path: Path) -> None:
    read(tmp_path, items="item_id,title\na,Café\nb,Beta\n")
    given = DataSettings(folder=str(tmp_path), k_core=0, encoding="ascii")
    with pytest.raises(DataError, match="items.csv is not ascii text; name its encoding in data.encoding"):
        read_dataset(given, seed=0)
    with pytest.raises(ValueError, match='Python knows no text encoding "latin-17"'):
        DataSettings(encoding="latin-17")


def test_a_given_separator_is_taken_at_its_word(tmp_path: Path) -> None:
    read(tmp_path, EVENTS, ITEMS)
    for stem in ("interactions", "items"):
        path = tmp_path / f"{stem}.csv"
        path.write_text(path.read_text().replace(",", "^"))
    given = DataSettings(folder=str(tmp_path), k_core=0, separator="^")
    dataset, report = read_dataset(given, seed=0)
    assert rows(dataset) == TRUE and report.notes == []


PACKED: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstd}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_compressed_file_is_read_as_the_file(tmp_path: Path, ending: str, packed: str) -> None:
    text = EVENTS
    if ending == "jsonl":
        text = "".join(
            json.dumps(dict(zip(("user_id", "item_id", "timestamp", "rating"), row, strict=True))) + "\n"
            for row in TRUE
        )
    (tmp_path / f"interactions.{ending}{packed}").write_bytes(PACKED[packed](text.encode()))
    (tmp_path / f"items.csv{packed}").write_bytes(PACKED[packed](ITEMS.encode()))
    dataset, report = read_dataset(DataSettings(folder=str(tmp_path), k_core=0), seed=0)
    assert rows(dataset) == TRUE and report.notes == []
    assert report.interactions_file == f"interactions.{ending}{packed}"


@pytest.mark.parametrize("packed", PACKED)
def test_a_damaged_compressed_file_is_refused(tmp_path: Path, packed: str) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    path = tmp_path / f"interactions.csv{packed}"
    whole = PACKED[packed](EVENTS.encode())
    for content, fault in (
        (whole[: len(whole) // 2], "is damaged"),
        (b"u,a,1" + whole, "is not compressed as its ending"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"interactions.csv{packed} {fault}"):
            read_dataset(DataSettings(folder=str(tmp_path), k_core=0), seed=0)
    path.unlink()
    (tmp_path / "interactions.csv").write_bytes(whole)
    with pytest.raises(DataError, match=f'is compressed; add "{packed}" to its name'):
        read_dataset(DataSettings(folder=str(tmp_path), k_core=0), seed=0)


def test_a_file_that_may_be_cut_off_is_noted(tmp_path: Path) -> None:
    _, report = read(tmp_path, EVENTS.rstrip("\n"))
    assert report.notes == [
        "interactions.csv ends in the middle of its last line, line 3; if it was cut off, copy it again."
    ]


def test_a_column_whose_name_is_nearly_ours_is_noted(tmp_path: Path) -> None:
    _, report = read(tmp_path, EVENTS.replace("rating", "ratings"))
    assert report.notes == [
        'interactions.csv: the column "ratings" is not read; set data.interactions_columns.rating = '
        '"ratings" if "rating" is meant.'
    ]


def test_a_compressed_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(b"x"))
    named = DataSettings(interactions=str(tmp_path / "a.parquet.gz"), items=str(tmp_path / "a.parquet.gz"))
    with pytest.raises(DataError, match="decompress it and take .gz off its name"):
        read_dataset(named, seed=0)


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        (EVENTS + 'u,"c,3,\nv,a,4,\n', "line 4: a quote is opened and never closed; correct the quotes"),
        (EVENTS + 'u,"5" pipe",3,\n', "line 4: quotes are broken"),
        ('user_id,item_id,timestamp\nu,a,"1\n2",4\n', "line 2: 4 cells where the header has 3"),
        (
            "sep=;\n" + EVENTS.replace(",", ";"),
            'the first line, "sep=;", is a hint to spreadsheet programs; remove that line',
        ),
        (
            "1,31,1260759144,2.5\n1,32,5,3\n",
            "its first line seems to be data (1, 31, 1260759144, 2.5); put a line of column names",
        ),
        (
            EVENTS.replace(",", "^"),
            'it has one column, "user_id^item_id^timestamp^rating"; name the columns in the first line '
            "and put commas between",
        ),
        ("user_id,item_id,timestamp,timestamp\nu,a,1,2\n", 'two columns named "timestamp"'),
    ],
)
def test_a_faulty_csv_names_line_and_remedy(tmp_path: Path, events: str, fault: str) -> None:
    assert fault in refusal(tmp_path, events)


def test_a_column_that_is_not_used_does_not_matter(tmp_path: Path) -> None:
    dataset, _ = read(tmp_path, "user_id,item_id,timestamp,x,x,\nu,a,1,4,5,\nu,b,2,,,\n")
    assert [row[:3] for row in rows(dataset)] == [row[:3] for row in TRUE]
    unread = '"x": {"y": 1, "y": 2}, "z": 1e999, "z": "\\ud800"'
    lines = f'{{"user_id": "u", "item_id": "a", "timestamp": 1, {unread}}}\n'
    (tmp_path / "interactions.csv").unlink()
    assert read(tmp_path, lines, ending="jsonl")[0].user_ids == ["u"]


def test_a_column_that_is_ours_but_for_case_is_noted_and_the_named_setting_reads_it(tmp_path: Path) -> None:
    _, report = read(tmp_path, items=ITEMS.replace("title", "Title"))
    assert report.notes == [
        'items.csv: the column "Title" is not read; '
        'set data.items_columns.title = "Title" if "title" is meant.'
    ]
    given = DataSettings(folder=str(tmp_path), k_core=0, items_columns={"title": "Title"})
    dataset, report = read_dataset(given, seed=0)
    assert dataset.item("a").title == "Alpha" and report.notes == []


@pytest.mark.parametrize(
    "written", ["4.12345678901234567890", "9007199254740993", "1e-400", "1e-99999999999999999999"]
)
def test_digits_that_a_float_cannot_keep_are_noted(tmp_path: Path, written: str) -> None:
    dataset, report = read(tmp_path, EVENTS.replace("4.5", written))
    assert rows(dataset)[0][3] == float(written)
    assert (
        f'1 of 2 values have more digits than a 64-bit number keeps, for instance "{written}" in line 2'
        in report.notes[0]
    )


EXACT = [
    "4.5",
    "0.30000000000000004",
    "4.0999999999999996",
    "1e22",
    "9007199254740992",
    "00004.50000000000000000",
]


@pytest.mark.parametrize("written", EXACT)
def test_digits_that_a_float_keeps_are_nothing_to_note(tmp_path: Path, written: str) -> None:
    assert read(tmp_path, EVENTS.replace("4.5", written))[1].notes == []


JSON = '{"user_id": "u", "item_id": "a", "timestamp": 1, "rating": %s}\n'


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (f"[{JSON % 1}]", 'write one object per line, for instance by "jq -c .[] FILE"'),
        ('[\n {"user_id": "u"}\n]', 'write one object per line, for instance by "jq -c .[] FILE"'),
        (
            '{"user_id": "u", "item_id": "a", "timestamp": 1, "timestamp": 2}',
            'line 1: the key "timestamp" is twice',
        ),
        (JSON % "NaN", "nan is not a number; write one such as 4.5, or leave it empty"),
        (JSON % ("1e" + "9" * 30), "inf is not a number"),
        (JSON % "true", "True is neither text nor a number"),
        (JSON % ("4." + "1" * 40), "is neither text nor a number that 64 bits can hold"),
        (
            JSON.replace('"a"', "NaN") % 1 + JSON % 1,
            "NaN stands among texts; write null where there is no text",
        ),
    ],
)
def test_faulty_json_lines_name_the_remedy(tmp_path: Path, lines: str, fault: str) -> None:
    assert fault in refusal(tmp_path, lines, "jsonl")


def test_json_numbers_are_the_written_ones(tmp_path: Path) -> None:
    moments = ("1600000000.123456789", "1600000000.123456788", "1600000000")
    lines = "".join(
        f'{{"user_id": "u", "item_id": "{item}", "timestamp": {time}}}\n'
        for item, time in zip("ab", moments, strict=False)
    )
    dataset, _ = read(tmp_path, lines, ending="jsonl")
    assert dataset.events.select("item_id", "nanosecond").rows() == [("b", 123456788), ("a", 123456789)]
    _, report = read(tmp_path, JSON % "9007199254740993", ending="jsonl")
    assert "9007199254740993 in line 1, read as 9007199254740992.0" in report.notes[0]


@pytest.mark.parametrize(
    ("column", "values", "fault"),
    [
        ("user_id", pl.Series([b"u"]), "b'u' is not an id; store ids as text or integers"),
        ("user_id", pl.Series([{"a": 1}]), "{'a': 1} is not an id"),
        ("rating", pl.Series([True]), "True is not a number"),
        ("rating", pl.Series([[1.0]]), "[1.0] is not a number"),
        ("timestamp", pl.Series([None], dtype=pl.Null), '"timestamp" is empty in all 1 rows'),
    ],
)
def test_odd_types_of_parquet_are_refused(tmp_path: Path, column: str, values: pl.Series, fault: str) -> None:
    frame = pl.DataFrame(
        {"user_id": ["u"], "item_id": ["a"], "timestamp": [1], "rating": [1.0]}
    ).with_columns(values.alias(column))
    frame.write_parquet(tmp_path / "interactions.parquet")
    (tmp_path / "items.csv").write_text(ITEMS)
    with pytest.raises(DataError) as caught:
        read_dataset(DataSettings(folder=str(tmp_path), k_core=0), seed=0)
    assert fault in str(caught.value)
