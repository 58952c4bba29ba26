"""Rows of every format become the same requests, and what cannot be one is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shelftalk.batch.request_files import as_json, columns_of, from_json, request_of, rows_of
from shelftalk.errors import MissingColumn, MissingFile, ShelftalkError, UnreadableFile
from shelftalk.records import Filter, Request, Text
from tests.batch.rows import rows_for, write

ITEMS = [f"i{n}" for n in range(40)]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv"])
def test_every_format_gives_the_same_requests(suffix: str, tmp_path: Path) -> None:
    rows = rows_for(ITEMS, 40)
    expected = [request_of(row) for row in rows_of(write(tmp_path / "a.jsonl", rows))]
    assert [request_of(row) for row in rows_of(write(tmp_path / f"a{suffix}", rows))] == expected
    assert expected[3].excluded == tuple(ITEMS[30:33]) and expected[5].filter == Filter(
        only=tuple(ITEMS[5:25])
    )
    assert expected[3].history == tuple(ITEMS[3:6]) and expected[3].user == "u3"


def test_a_request_survives_being_written_on_a_line() -> None:
    for request in (
        Request("", ()),
        Request("ü\n", ("a", Text('a film\nlike "this" \u2028'), "b"), (1.5, None, 2.0), ("c", "c"), "d"),
        Request("u", ("a",), filter=Filter(categories=("x",), min_price=1.0), excluded=("e",)),
        Request("u", ("a",), filter=Filter(only=())),
    ):
        line = as_json(request)
        assert "\n" not in line and from_json(line) == request


def test_words_and_numbers_as_ids() -> None:
    row = {"user_id": 7, "history": '[1, {"text": "a lamp"}]', "ratings": "[4.5, null]", "item_id": 3}
    assert request_of(row) == Request("7", ("1", Text("a lamp")), (4.5, None), item="3")


@pytest.mark.parametrize(
    "row",
    [
        {"history": "B01 B02"},
        {"history": '{"text": "a"}'},
        {"history": [1.5]},
        {"history": [True]},
        {"history": [["a"]]},
        {"history": [{"text": ""}]},
        {"history": [{"words": "a"}]},
        {"history": [], "ratings": ["x"]},
        {"history": ["a"], "ratings": [1, 2]},
        {"history": [], "filter": ["x"]},
        {"history": [], "filter": {"brand": ["x"]}},
        {"history": [], "filter": {"brands": "x"}},
        {"history": [], "filter": {"min_price": "1"}},
        {"history": "[" * 100_000},
    ],
    ids=lambda row: json.dumps(row)[:40],
)
def test_what_is_no_request_is_a_sentence(row: dict[str, Any]) -> None:
    with pytest.raises(ShelftalkError) as refused:
        request_of(row)
    assert "; " in str(refused.value) and len(str(refused.value)) < 400


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="correct --requests"):
        columns_of(tmp_path / "none.csv")
    with pytest.raises(UnreadableFile, match="rename it to one of .csv"):
        columns_of(tmp_path / "requests.xlsx")
    (tmp_path / "a.csv").write_text("user_id,histroy\nu,[]\n")
    with pytest.raises(MissingColumn, match='did you mean "histroy"'):
        columns_of(tmp_path / "a.csv")
    for name, text in (
        ("a.parquet", "no parquet"),
        ("b.jsonl", '{"history": []}\n{"history": \n'),
        ("c.jsonl", '{"history": []}\n[]\n'),
        ("d.csv", "user_id,history\nu\n"),
        ("e.csv", 'user_id,history\nu,"[\n'),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(UnreadableFile) as refused:
            columns_of(tmp_path / name)
            list(rows_of(tmp_path / name))
        assert name in str(refused.value) and "\n" not in str(refused.value)
    (tmp_path / "f.jsonl").write_bytes(b'{"history": ["\xff"]}\n')
    with pytest.raises(UnreadableFile):
        list(rows_of(tmp_path / "f.jsonl"))
