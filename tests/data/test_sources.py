"""Reading: any format gives the same dataset, and each bad input one sentence with file, row and
remedy."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from shelftalk.data.sources import DataSettings, read_dataset
from shelftalk.errors import DataError
from shelftalk.records import Nouns
from shelftalk.testing.worlds import EVIL_TEXTS, tiny_world

WORLD = tiny_world(users=30, items=40)
EVENTS = "user_id,item_id,timestamp,rating\n"
ITEMS = "item_id,title\na,Alpha\nb,Beta\n"


def settings(folder: Path, **others: object) -> DataSettings:
    return DataSettings.model_validate({"folder": str(folder), "k_core": 0} | others)


def write(folder: Path, events: str, items: str = ITEMS) -> DataSettings:
    (folder / "interactions.csv").write_text(events)
    (folder / "items.csv").write_text(items)
    return settings(folder)


def refusal(wanted: DataSettings) -> str:
    with pytest.raises(DataError) as caught:
        read_dataset(wanted, seed=0)
    return f"{type(caught.value).__name__}: {caught.value}"


def write_world(folder: Path, ending: str) -> None:
    for name, frame in (("interactions", WORLD.events.drop("position")), ("items", WORLD.items)):
        file = folder / f"{name}.{ending}"
        if ending == "parquet":
            frame.write_parquet(file)
        elif ending == "arrow":
            frame.write_ipc_stream(file)
        elif ending == "feather":
            frame.write_ipc(file, compression="zstd")
        elif ending in ("jsonl", "ndjson", "json"):
            frame.write_ndjson(file)
        else:
            frame.write_csv(file, separator="\t" if ending == "tsv" else ",")


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "jsonl", "ndjson", "json", "arrow", "feather"])
def test_every_format_gives_the_same_dataset(tmp_path, ending):
    write_world(tmp_path, ending)
    dataset, report = read_dataset(settings(tmp_path), seed=0)
    assert dataset.fingerprint() == WORLD.fingerprint()
    assert report.interactions_file == f"interactions.{ending}" and len(report.interactions_sha256) == 64


def test_two_files_of_two_formats_may_be_named(tmp_path):
    write_world(tmp_path, "csv")
    write_world(tmp_path, "jsonl")
    named = DataSettings(
        interactions=str(tmp_path / "interactions.csv"), items=str(tmp_path / "items.jsonl"), k_core=0
    )
    dataset, report = read_dataset(named, seed=0)
    assert dataset.fingerprint() == WORLD.fingerprint()
    assert report.source == "interactions.csv and items.jsonl"


def test_columns_are_mapped(tmp_path):
    write(tmp_path, "who,what,when,stars\nu,a,5,3.5\n", "asin,name\na,Alpha\n")
    mapped = settings(
        tmp_path,
        interactions_columns={"user_id": "who", "item_id": "what", "timestamp": "when", "rating": "stars"},
        items_columns={"item_id": "asin", "title": "name"},
    )
    dataset, _ = read_dataset(mapped, seed=0)
    assert dataset.item("a").title == "Alpha" and dataset.events.rows() == [("u", "a", 0, 5, 3.5, 0)]


def test_integer_ids_of_parquet_and_json_become_text(tmp_path):
    pl.DataFrame({"user_id": [7, 7], "item_id": [1, 2], "timestamp": [1, 2]}).write_parquet(
        tmp_path / "interactions.parquet"
    )
    (tmp_path / "items.jsonl").write_text('{"item_id": 1}\n\n{"item_id": 2, "title": "Two"}\n')
    dataset, _ = read_dataset(settings(tmp_path), seed=0)
    assert (
        dataset.user_ids == ["7"] and sorted(dataset.item_ids) == ["1", "2"] and dataset.item("1").title == ""
    )


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_ids_that_are_floats_are_refused(tmp_path, ending):
    frame = pl.DataFrame({"user_id": ["u", "u"], "item_id": [1.0, 2.0], "timestamp": [1, 2]})
    if ending == "parquet":
        frame.write_parquet(tmp_path / "interactions.parquet")
    else:
        frame.write_ndjson(tmp_path / "interactions.jsonl")
    (tmp_path / "items.csv").write_text(ITEMS)
    message = refusal(settings(tmp_path))
    assert (
        message.startswith(f"BadValue: interactions.{ending}, ")
        and '1, column "item_id": 1.0 is not an id' in message
    )


def test_an_id_of_a_csv_is_never_rounded(tmp_path):
    message = refusal(write(tmp_path, EVENTS + "u,3.0,1,\n", "item_id\n3\n"))
    assert message.startswith('UnknownItem: interactions.csv, line 2: item "3.0" is not in the catalogue')


def test_a_32_bit_rating_keeps_its_written_value(tmp_path):
    frame = pl.DataFrame(
        {"user_id": ["u", "u"], "item_id": ["a", "b"], "timestamp": [1, 2], "rating": [4.1, None]}
    )
    frame.cast({"rating": pl.Float32}).write_parquet(tmp_path / "interactions.parquet")
    (tmp_path / "items.csv").write_text(ITEMS)
    assert read_dataset(settings(tmp_path), seed=0)[0].events["rating"].to_list() == [4.1, None]


@pytest.mark.parametrize(
    "text",
    [
        "2014-07-23T10:15:00Z",
        "2014-07-23 12:15:00+02:00",
        "2014-07-23T10:15:00.900",
        "1406110500",
        "1406110500.0",
    ],
)
def test_times_are_unix_seconds_or_iso_dates_in_utc(tmp_path, text):
    dataset, _ = read_dataset(write(tmp_path, EVENTS + f"u,a,{text},\n"), seed=0)
    assert dataset.events["timestamp"].to_list() == [1406110500]


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_datetime_columns_are_converted(tmp_path, zone):
    moments = pl.from_epoch(pl.Series([1406110500, 1406110501]))
    frame = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["b", "a"], "timestamp": moments})
    if zone:
        frame = frame.with_columns(pl.col("timestamp").dt.replace_time_zone("UTC").dt.convert_time_zone(zone))
    frame.write_parquet(tmp_path / "interactions.parquet")
    (tmp_path / "items.csv").write_text(ITEMS)
    assert read_dataset(settings(tmp_path), seed=0)[0].events["timestamp"].to_list() == [
        1406110500,
        1406110501,
    ]


BAD_CELLS = [
    ("rating", "u,a,1,good", '"good" is not a number'),
    ("rating", "u,a,1,NaN", '"NaN" is not a number'),
    ("rating", "u,a,1,inf", '"inf" is not a number'),
    ("rating", 'u,a,1,"4,5"', '"4,5" is not a number'),
    ("timestamp", "u,a,NaN,", '"NaN" is not a number as in the rows above; write every time as Unix seconds'),
    ("timestamp", "u,a,1_5,", '"1_5" is not a number as in the rows above'),
    ("timestamp", "u,a,yesterday,", '"yesterday" is not a number as in the rows above'),
    ("timestamp", "u,a,2014-07-23,", '"2014-07-23" is not a number as in the rows above'),
    ("timestamp", "u,a,1e30,", '"1e30" is not a number as in the rows above'),
    ("timestamp", "u,a,,3", "missing, where 1 rows have one"),
    ("user_id", ",a,2,3", "the cell has no id"),
    ("item_id", "u,,2,3", "the cell has no id"),
]


@pytest.mark.parametrize(("column", "row", "fault"), BAD_CELLS)
def test_a_bad_cell_is_named_with_its_line_and_column(tmp_path, column, row, fault):
    message = refusal(write(tmp_path, EVENTS + f"u,b,1,4\n{row}\n"))
    assert message.startswith(f'BadValue: interactions.csv, line 3, column "{column}": {fault}')


def test_the_line_is_that_of_the_file_even_after_titles_over_several_lines(tmp_path):
    items = 'item_id,title,price\na,"two\nlines",1\n\nb,Beta,cheap\n'
    message = refusal(write(tmp_path, EVENTS + "u,a,1,4\n", items))
    assert message.startswith('BadValue: items.csv, line 5, column "price": "cheap" is not a number')


def test_times_that_turn_from_dates_to_numbers_are_refused(tmp_path):
    message = refusal(write(tmp_path, EVENTS + "u,a,2014-07-23,\nu,b,1406073600,\n"))
    assert message.startswith(
        'BadValue: interactions.csv, line 3, column "timestamp": "1406073600" is not an ISO 8601 date'
    )


@pytest.mark.parametrize("column", ["rating", "timestamp"])
def test_not_a_number_in_parquet_is_refused(tmp_path, column):
    values = {"rating": [1.0, 2.0], "timestamp": [1.0, 2.0]} | {column: [1.0, float("nan")]}
    pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"], **values}).write_parquet(
        tmp_path / "interactions.parquet"
    )
    (tmp_path / "items.csv").write_text(ITEMS)
    assert refusal(settings(tmp_path)).startswith(
        f'BadValue: interactions.parquet, row 2, column "{column}": nan is not a'
    )


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (["u", 7], "7 is of another type than the rows above"),
        (["u", ["v"]], "['v'] is of another type than the rows above"),
        ([["u"], ["v"]], "['u'] is neither text nor a number"),
        ([True, False], "True is neither text nor a number"),
        ([2**70, 1], f"{2**70} is neither text nor a number that 64 bits can hold"),
        ([1, 2.5], "1.0 is not an id"),
        (["u", None], "the cell has no id"),
    ],
)
def test_mixed_or_odd_types_of_json_are_refused(tmp_path, objects, message):
    lines = [
        json.dumps({"user_id": user, "item_id": item, "timestamp": 1})
        for user, item in zip(objects, "ab", strict=True)
    ]
    (tmp_path / "interactions.jsonl").write_text("\n".join(lines))
    (tmp_path / "items.csv").write_text(ITEMS)
    error = refusal(settings(tmp_path))
    assert error.startswith("BadValue: interactions.jsonl, line ") and message in error


def test_lists_in_parquet_are_refused_as_text(tmp_path):
    write(tmp_path, EVENTS + "u,a,1,4\n")
    (tmp_path / "items.csv").unlink()
    pl.DataFrame({"item_id": ["a"], "categories": [["x", "y"]]}).write_parquet(tmp_path / "items.parquet")
    assert """items.parquet, row 1, column "categories": ['x', 'y'] is not text""" in refusal(
        settings(tmp_path)
    )


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_every_text_is_legal_as_title_and_goes_through_unchanged(tmp_path, ending):
    write(tmp_path, EVENTS + "u,i0,1,4\n", "item_id\ni0\n")
    (tmp_path / "items.csv").unlink()
    titles = [*EVIL_TEXTS, *(character for character in map(chr, range(1, 0x250)))]
    frame = pl.DataFrame({"item_id": [f"i{row}" for row in range(len(titles))], "title": titles})
    file = tmp_path / f"items.{ending}"
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[ending](file)
    dataset, _ = read_dataset(settings(tmp_path, catalogue="all"), seed=0)
    assert [dataset.item(f"i{row}").title for row in range(len(titles))] == titles


def test_a_missing_file_or_folder_is_named(tmp_path):
    assert refusal(settings(tmp_path / "nowhere")).startswith("MissingFile: there is no folder")
    assert "holds no file interactions" in refusal(settings(tmp_path))
    gone = DataSettings(interactions=str(tmp_path / "gone.csv"), items=str(tmp_path / "gone.csv"))
    assert refusal(gone).startswith("MissingFile: there is no file") and "gone.csv" in refusal(gone)


def test_a_folder_with_two_formats_of_one_table_is_refused(tmp_path):
    write_world(tmp_path, "csv")
    write_world(tmp_path, "parquet")
    assert "holds both interactions.parquet and interactions.csv" in refusal(settings(tmp_path))


def test_a_folder_instead_of_a_file_and_an_unknown_ending_are_refused(tmp_path):
    write(tmp_path, EVENTS)
    (tmp_path / "items.xlsx").write_bytes(b"PK")
    for name, fault in (
        (".", "is a folder"),
        ("items.xlsx", 'no reader for the ending ".xlsx"; convert it to one of .parquet'),
    ):
        named = DataSettings(interactions=str(tmp_path / name), items=str(tmp_path / "items.csv"))
        assert refusal(named).startswith("UnreadableFile: ") and fault in refusal(named)


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.5, 0.97])
def test_truncated_parquet_is_refused(tmp_path, kept):
    write_world(tmp_path, "parquet")
    whole = (tmp_path / "interactions.parquet").read_bytes()
    (tmp_path / "interactions.parquet").write_bytes(whole[: int(kept * len(whole))])
    assert refusal(settings(tmp_path)).startswith("UnreadableFile: interactions.parquet is ")


@pytest.mark.parametrize("ending", ["parquet", "arrow", "feather"])
def test_metadata_that_is_no_text_does_not_matter_or_is_refused(tmp_path, ending, capfd):
    table = pa.table({"user_id": ["u"], "item_id": ["a"], "timestamp": [1]})
    field = table.schema.field("user_id").with_metadata({b"key": b"value\xff\xfe"})
    table = table.cast(pa.schema([field, *list(table.schema)[1:]]))
    path = str(tmp_path / f"interactions.{ending}")
    if ending == "parquet":
        pq.write_table(table, path)
    else:
        new = pa.ipc.new_stream if ending == "arrow" else pa.ipc.new_file
        with new(path, table.schema) as writer:
            writer.write_table(table)
    (tmp_path / "items.csv").write_text(ITEMS)
    assert read_dataset(settings(tmp_path), seed=0)[0].user_ids == ["u"]
    assert "panicked" not in capfd.readouterr().err


def test_parquet_damaged_in_the_middle_is_refused(tmp_path):
    write_world(tmp_path, "parquet")
    whole = bytearray((tmp_path / "interactions.parquet").read_bytes())
    whole[40:400] = bytes(360)
    (tmp_path / "interactions.parquet").write_bytes(whole)
    assert refusal(settings(tmp_path)).startswith(
        "UnreadableFile: interactions.parquet is truncated or no Parquet file"
    )


@pytest.mark.parametrize(
    ("ending", "content", "fault"),
    [
        ("csv", b"", "is empty"),
        ("csv", b"\n", "is empty"),
        ("csv", EVENTS.encode() + b"u,caf\xe9\xe9,1,2\n", "is not UTF-8 text"),
        ("csv", EVENTS.encode() + b"u,a,1\n", "line 2: 3 cells where the header has 4"),
        ("csv", EVENTS.encode() + b"u,b,1,3\nu,a,1,2,5\n", "line 3: 5 cells where the header has 4"),
        ("csv", EVENTS.encode() + b'u,"a,1,2\nu,b,1,2\n', "correct the quotes"),
        ("csv", b"user_id,user_id\nu,a\n", 'two columns named "user_id"'),
        ("jsonl", b"", "is empty"),
        ("jsonl", b"\n\n", "is empty"),
        ("jsonl", b'{"user_id": "u"}\n{"user_id": "u', "line 2: broken JSON"),
        ("jsonl", b'{"user_id": "\\ud800"}\n', "line 1: broken JSON"),
        ("jsonl", b"[" * 100_000, "line 1: broken JSON"),
        ("jsonl", b'[{"user_id": "u"}]\n', "line 1: not a JSON object"),
        ("jsonl", b'{"user_id": "caf\xe9\xe9"}\n', "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_of_its_format_is_refused(tmp_path, ending, content, fault):
    (tmp_path / f"interactions.{ending}").write_bytes(content)
    (tmp_path / "items.csv").write_text(ITEMS)
    message = refusal(settings(tmp_path))
    assert message.startswith(f"UnreadableFile: interactions.{ending}") and fault in message


def test_a_header_without_rows_leaves_nothing(tmp_path):
    assert refusal(write(tmp_path, EVENTS)) == (
        "NothingLeft: interactions.csv has columns but no rows; give a file with at least one row."
    )


def test_a_missing_column_names_the_nearest_and_the_setting(tmp_path):
    message = refusal(write(tmp_path, "UserID,item_id,timestamp\nu,a,1\n"))
    assert message == (
        'MissingColumn: interactions.csv has no column "user_id": the nearest is "UserID"; '
        'set data.interactions_columns.user_id = "UserID" if that is meant.'
    )


def test_a_mapped_column_must_be_there_even_if_it_is_optional(tmp_path):
    write(tmp_path, EVENTS + "u,a,1,2\n")
    message = refusal(settings(tmp_path, items_columns={"brand": "maker"}))
    assert message.startswith(
        'MissingColumn: items.csv has no column "maker": it has item_id, title; set data.items_columns.'
    )


def test_events_without_position_and_time_have_no_order(tmp_path):
    message = refusal(write(tmp_path, "user_id,item_id,time\nu,a,5\n"))
    assert message.startswith('MissingColumn: interactions.csv has neither a "position" nor a "timestamp"')


def test_a_timestamp_that_is_empty_in_all_rows_is_called_empty_not_missing(tmp_path):
    message = refusal(write(tmp_path, "user_id,item_id,timestamp\nu,a,\nu,b,\n"))
    assert message.startswith(
        'MissingColumn: interactions.csv: "timestamp" is empty in all 2 rows, so the events have no order'
    )
    assert 'set split.scheme = "random"' in message
    unordered = read_dataset(settings(tmp_path), seed=0, order_needed=False)[0]
    assert not unordered.ordered


def test_data_without_position_and_time_is_read_and_reported_to_have_no_order(tmp_path):
    dataset, report = read_dataset(write(tmp_path, "user_id,item_id,plays\nu,a,7\nu,b,2\n"), seed=0)
    assert not dataset.ordered and report.ordered_by == "nothing" and report.events_with_rating == 0
    assert "it has user_id, item_id, plays" in report.tie_rule and "no order" in report.tie_rule


@pytest.mark.parametrize("column", ["Timestamp", "ordered_at", "OrderDate", "event time"])
def test_a_column_that_seems_to_hold_the_order_is_not_passed_over(tmp_path, column):
    wanted = write(tmp_path, f"user_id,item_id,{column}\nu,a,2\nu,b,1\n")
    assert f'set data.interactions_columns.timestamp = "{column}"' in refusal(wanted)
    mapped = settings(tmp_path, interactions_columns={"timestamp": column})
    assert read_dataset(mapped, seed=0)[0].events["item_id"].to_list() == ["b", "a"]
    assert not read_dataset(wanted, seed=0, order_needed=False)[0].ordered


@pytest.mark.parametrize("column", ["candidate", "plays", "update_count", "rating", "stampede"])
def test_a_column_of_another_meaning_is(tmp_path, column):
    assert not read_dataset(write(tmp_path, f"user_id,item_id,{column}\nu,a,2\nu,b,1\n"), seed=0)[0].ordered


def test_own_data_is_kept_whole_and_bundled_data_is_the_five_core():
    own, other, bundled = (
        DataSettings(folder="shop"),
        DataSettings(interactions="a.csv", items="b.csv"),
        DataSettings(),
    )
    assert [(s.k_core, s.catalogue, s.k_core_on) for s in (own, other, bundled)] == [
        (0, "all", "all")
    ] * 2 + [(5, "interacted", "all")]
    assert (
        DataSettings(folder="shop", k_core=5).k_core == 5 and DataSettings(catalogue="all").catalogue == "all"
    )
    assert DataSettings.model_validate(own.model_dump()) == own


def test_the_report_has_what_was_read_and_what_is_kept(tmp_path):
    rows = "".join(f"u{user},{item},{user},\n" for user in range(3) for item in "ab") + "u9,a,1,\nu0,a,9,\n"
    write(tmp_path, EVENTS + rows, ITEMS + "c,Unsold\n")
    report = read_dataset(settings(tmp_path, k_core=2, catalogue="interacted"), seed=0)[1]
    assert report.read_and_kept() == (
        "Read 4 users, 8 interactions, 3 items; kept 3 users, 6 interactions, 2 items "
        "(repeats dropped: 1; 2-core, counted on all interactions, held-out ones included; "
        "items without a counted interaction left out)."
    )
    whole = read_dataset(settings(tmp_path), seed=0)[1]
    assert whole.counts() == {
        "users": {"read": 4, "kept": 4},
        "interactions": {"read": 8, "kept": 7},
        "items": {"read": 3, "kept": 3},
    }
    assert whole.read_and_kept().endswith(
        "3 items (repeats dropped: 1; 1 of the items without an interaction)."
    )


def test_a_core_of_training_events_is_left_to_what_divides_them(tmp_path):
    rows = "".join(f"u{user},{item},{user},\n" for user in range(3) for item in "ab")
    write(tmp_path, EVENTS + rows + "v,c,1,\n", ITEMS + "c,Rare\n")
    wanted = settings(tmp_path, k_core=2, k_core_on="training", catalogue="interacted")
    dataset, _ = read_dataset(wanted, seed=0)
    assert len(dataset.events) == 7 and sorted(dataset.item_ids) == ["a", "b", "c"]
    assert (wanted.training_core.k, wanted.training_core.whole_catalogue) == (2, False)
    assert settings(tmp_path, k_core=2).training_core is None


def test_position_comes_before_time_and_must_be_complete(tmp_path):
    events = "user_id,item_id,position,timestamp\nu,a,2,1\nu,b,1,9\n"
    dataset, report = read_dataset(write(tmp_path, events), seed=0)
    assert dataset.events["item_id"].to_list() == ["b", "a"] and report.ordered_by == "position"
    assert 'line 3, column "position": missing' in refusal(write(tmp_path, events.replace("b,1", "b,")))


def test_an_item_outside_the_catalogue_is_refused_before_any_filter(tmp_path):
    write(tmp_path, EVENTS + "u,a,1,\nu,zz,2,\n")
    message = refusal(settings(tmp_path, k_core=5))
    assert message.startswith(
        'UnknownItem: interactions.csv, line 3: item "zz" is not in the catalogue (1 such items)'
    )


def test_a_duplicated_item_is_refused(tmp_path):
    message = refusal(write(tmp_path, EVENTS + "u,a,1,\n", ITEMS + "a,Again\n"))
    assert message.startswith('DuplicateItem: items.csv, line 4: item "a" is on an earlier row already')


def test_an_empty_k_core_names_the_k_that_would_leave_something(tmp_path):
    rows = "".join(f"u{user},{item},{user},\n" for user in range(3) for item in "ab")
    write(tmp_path, EVENTS + rows)
    message = refusal(settings(tmp_path, k_core=5))
    assert message.startswith(
        "NothingLeft: the k-core filter with k = 5 leaves nothing of 6 events; set data.k_core = 2 or less"
    )


REPEATS = EVENTS + "u,a,3,1\nu,b,2,2\nu,a,1,3\nv,a,1,4\n"


@pytest.mark.parametrize(("repeats", "rating"), [("first", 3.0), ("last", 1.0)])
def test_a_repeat_is_dropped_by_rule_and_counted(tmp_path, repeats, rating):
    write(tmp_path, REPEATS)
    dataset, report = read_dataset(settings(tmp_path, repeats=repeats), seed=0)
    mine = dataset.events.filter(user_id="u", item_id="a")
    assert mine["rating"].to_list() == [rating]
    assert (report.rows_read, report.repeats_dropped, report.events_read, report.repeats) == (
        4,
        1,
        3,
        repeats,
    )


def test_a_repeat_can_be_an_error(tmp_path):
    write(tmp_path, REPEATS)
    assert 'line 4: user "u" takes item "a" again (1 such rows)' in refusal(
        settings(tmp_path, repeats="refuse")
    )


def test_items_without_events_stay_in_the_catalogue_unless_only_the_others_are_wanted(tmp_path):
    wanted = write(tmp_path, EVENTS + "u,a,1,\n")
    assert read_dataset(wanted.model_copy(update={"catalogue": "interacted"}), seed=0)[0].item_ids == ["a"]
    dataset, report = read_dataset(wanted, seed=0)
    assert sorted(dataset.item_ids) == ["a", "b"] and (
        report.items,
        report.catalogue,
        report.catalogue_read,
    ) == (1, 2, 2)


def test_the_report_is_plain_facts_that_json_can_hold(tmp_path):
    write(tmp_path, EVENTS + "u,a,5,\nu,b,5,2\nv,a,1,\nv,b,2,\n", "item_id,title,brand\na,Alpha,\nb,,\n")
    _, report = read_dataset(settings(tmp_path), seed=0)
    assert json.loads(json.dumps(asdict(report))) == asdict(report)
    assert (report.items_with_title, report.items_with_brand, report.events_with_rating) == (0.5, 0.0, 0.25)
    assert report.users_tied_at_end == 0.5
    assert "50.0% of the users have their last two events at the same timestamp" in report.tie_rule


def test_the_files_row_order_changes_only_their_hash(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, seed in ((first, 1), (second, 2)):
        folder.mkdir()
        for name, frame in (("interactions", WORLD.events.drop("position")), ("items", WORLD.items)):
            frame.sample(fraction=1, shuffle=True, seed=seed).write_parquet(folder / f"{name}.parquet")
    (one, report), (other, report_of_other) = (
        read_dataset(settings(folder, k_core=3), seed=4) for folder in (first, second)
    )
    assert one.fingerprint() == other.fingerprint()
    same = {"source": "", "interactions_sha256": "", "items_sha256": ""}
    assert replace(report, **same) == replace(report_of_other, **same)


def test_settings_name_one_source_and_only_known_columns():
    for wrong in (
        {"interactions": "a.csv"},
        {"folder": "x", "bundled": "movielens-small"},
        {"interactions": "a.csv", "items": "b.csv", "folder": "x"},
        {"interactions_columns": {"user": "who"}},
        {"bundled": "netflix"},
        {"k_core": -1},
        {"pathh": "x"},
    ):
        with pytest.raises(ValidationError):
            DataSettings.model_validate(wrong)


def test_nouns_come_from_the_source_unless_set(tmp_path):
    assert DataSettings().nouns == Nouns("film", "films", "viewer", "watched")
    assert settings(tmp_path).nouns == Nouns("item", "items", "customer", "bought")
    assert settings(tmp_path, item_noun="book", took="borrowed").nouns == Nouns(
        "book", "items", "customer", "borrowed"
    )
