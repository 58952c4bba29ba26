"""Samples: columns that read like a list of records, in memory and in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.records import Sample, Segment
from shelftalk.tasks.mixture import write_samples
from shelftalk.tasks.samples import Samples, SamplesFile, Tables, joined, read_samples, samples_of

TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=12)
RECORDS = st.lists(
    st.builds(
        Sample,
        task=TEXT,
        template=TEXT,
        user=TEXT,
        items=st.lists(TEXT, max_size=4).map(tuple),
        segments=st.lists(st.builds(Segment, TEXT, st.booleans(), st.booleans()), max_size=4).map(tuple),
    ),
    max_size=6,
)

END = st.none() | st.integers(-8, 8)


def tables_for(records: Iterable[Sample]) -> Tables:
    records = list(records)
    items = dict.fromkeys(item for record in records for item in record.items)
    return Tables(list(items), list(dict.fromkeys(record.user for record in records if record.user)))


def columns(records: Sequence[Sample]) -> Samples:
    return samples_of(records, tables_for(records))


def record(number: int, task: str = "t", user: str = "u", symbols: bool = False) -> Sample:
    return Sample(
        task,
        "w",
        user,
        (f"i{number}",),
        (Segment(f"text {number}", symbols=symbols), Segment("answer", True)),
    )


# --- in memory
# -------------------------------------------------------------------------------------------------------


@given(RECORDS)
def test_records_come_out_as_they_went_in(records):
    samples = columns(records)
    assert (
        list(samples) == records
        and samples == records
        and records == samples
        and len(samples) == len(records)
    )


@given(st.data(), RECORDS)
def test_places_and_slices_are_those_of_a_list(data, records):
    samples = columns(records)
    for position in range(-len(records), len(records)):
        assert samples[position] == records[position]
    cut = slice(data.draw(END), data.draw(END), data.draw(END.filter(lambda step: step != 0)))
    assert isinstance(samples[cut], Samples) and samples[cut] == records[cut]


@pytest.mark.parametrize("position", [2, -3])
def test_a_position_beyond_the_ends_is_an_error(position):
    with pytest.raises(IndexError):
        columns([record(0), record(1)])[position]


@given(st.data(), RECORDS.filter(bool))
def test_samples_are_taken_in_any_order_and_again(data, records):
    wanted = data.draw(st.lists(st.integers(0, len(records) - 1)))
    assert columns(records).take(np.array(wanted, np.int64)) == [records[position] for position in wanted]


@given(RECORDS)
def test_counts_and_places_of_a_task_are_those_of_its_records(records):
    samples = columns(records)
    assert samples.counts() == Counter(record.task for record in records)
    assert samples.tasks() == [record.task for record in records]
    for task in {"no such task", *(record.task for record in records)}:
        assert samples.positions(task).tolist() == [
            position for position, record in enumerate(records) if record.task == task
        ]


@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_parts_are_joined_one_after_the_other(parts):
    tables = tables_for(record for part in parts for record in part)
    assert joined([samples_of(part, tables) for part in parts]) == [
        record for part in parts for record in part
    ]


def test_samples_differ_from_records_of_which_anything_is_different():
    records = [record(0), record(1)]
    samples = columns(records)
    assert (
        samples != records[:1]
        and samples != [*records, record(2)]
        and samples != records[::-1]
        and samples != "ab"
    )
    assert samples != [record(0), record(1, symbols=True)] and samples != [record(0), record(1, task="other")]
    assert samples != [1, 2] and samples != 2


def test_a_text_and_a_symbol_of_the_same_letters_are_two_pieces_and_loss_makes_no_third():
    segments = (
        Segment("<a_1>"),
        Segment("<a_1>", symbols=True),
        Segment("<a_1>", True),
        Segment("<a_1>", True, True),
    )
    samples = columns([Sample("t", "w", "", (), segments)])
    assert samples[0].segments == segments
    assert samples.tables.pieces == [Segment("<a_1>"), Segment("<a_1>", symbols=True)]


def test_an_item_or_user_that_the_tables_do_not_know_is_an_error():
    for unknown in (record(1), record(0, user="v")):
        with pytest.raises(KeyError):
            samples_of([unknown], tables_for([record(0)]))


# --- in a file
# -------------------------------------------------------------------------------------------------------


@given(RECORDS)
@settings(max_examples=60, deadline=None)
def test_any_sample_can_be_kept(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("samples") / "epoch.parquet"
    write_samples(columns(records), path)
    read = read_samples(path)
    assert read == records and read.counts() == Counter(record.task for record in records)


@given(st.lists(RECORDS, min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_row_groups_are_read_as_one(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("samples") / "epoch.parquet"
    tables = tables_for(record for part in parts for record in part)
    keep(path, [samples_of(part, tables) for part in parts])
    assert read_samples(path) == [record for part in parts for record in part]


def test_row_groups_whose_dictionaries_share_nothing_or_stand_in_another_order_are_read_as_one(tmp_path):
    parts = [
        [
            record(number, task=f"t{number % 3}", user=f"u{number}", symbols=bool(number % 2))
            for number in numbers
        ]
        for numbers in (range(5), range(5, 9), range(8, -1, -1))
    ]
    tables = tables_for(record for part in parts for record in part)
    keep(tmp_path / "epoch", [samples_of(part, tables) for part in parts])
    assert pq.ParquetFile(tmp_path / "epoch").num_row_groups == 3
    read = read_samples(tmp_path / "epoch")
    assert read == [record for part in parts for record in part]
    assert len(read.tables.pieces) == len(set(read.tables.pieces)) == 10 and len(read.tables.user_ids) == 9


def test_what_was_read_can_be_written_again(tmp_path):
    records = [record(number, user="" if number == 2 else "u") for number in range(4)]
    write_samples(columns(records), tmp_path / "one")
    write_samples(read_samples(tmp_path / "one"), tmp_path / "other")
    assert read_samples(tmp_path / "other") == records


def test_no_sample_at_all_can_be_kept(tmp_path):
    keep(tmp_path / "none", [])
    assert read_samples(tmp_path / "none") == []


def test_other_programs_read_plain_columns(tmp_path):
    write_samples(columns([record(3)]), tmp_path / "epoch")
    assert pq.read_table(tmp_path / "epoch").to_pylist() == [
        {
            "task": "t",
            "template": "w",
            "user": "u",
            "items": ["i3"],
            "texts": ["text 3", "answer"],
            "bears_loss": [False, True],
            "symbols": [False, False],
        }
    ]


def keep(path: Path, parts: Iterable[Samples]) -> None:
    with SamplesFile(path) as file:
        for part in parts:
            file.add(part)
