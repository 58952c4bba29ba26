"""Times: the order within a second is that of the source, and what a time was taken for is noted."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from shelftalk.data.dataset import Dataset
from shelftalk.data.sources import DataReport, DataSettings, read_dataset
from shelftalk.errors import BadValue

SECOND = 1_600_000_000


def read(folder: Path, times: list[str] | pl.Series) -> tuple[Dataset, DataReport]:
    """One user who takes i0, i1 ... at these times: text goes into a CSV, a series into Parquet."""
    items = [f"i{number}" for number in range(len(times))]
    if isinstance(times, pl.Series):
        pl.DataFrame({"user_id": "u", "item_id": items, "timestamp": times}).write_parquet(
            folder / "interactions.parquet"
        )
    else:
        rows = [f"u,{item},{time}" for item, time in zip(items, times, strict=True)]
        (folder / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows, ""]))
    (folder / "items.csv").write_text("\n".join(["item_id", *items, ""]))
    return read_dataset(DataSettings(folder=str(folder), k_core=0), seed=0)


def moments(dataset: Dataset) -> list[tuple[int, int]]:
    return dataset.events.select("timestamp", "nanosecond").rows()


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("1600000000.25", (SECOND, 250_000_000)),
        ("1600000000.1", (SECOND, 100_000_000)),
        ("+1.6e9", (SECOND, 0)),
        ("-0.25", (-1, 750_000_000)),
        ("1600000000123", (SECOND, 123_000_000)),
        ("1600000000123.456", (SECOND, 123_456_000)),
        ("1600000000123456", (SECOND, 123_456_000)),
        ("1600000000123456789", (SECOND, 123_456_789)),
        ("20200913", (1_599_955_200, 0)),
        ("20200913122640", (SECOND, 0)),
        ("2020-09-13", (1_599_955_200, 0)),
        ("2020-09-13T12:26:40.123456789Z", (SECOND, 123_456_789)),
        ("2020-09-13T12:26:40.1234567899Z", (SECOND, 123_456_789)),
        ('"2020-09-13T14:26:40,5+02:00"', (SECOND, 500_000_000)),
        ("2020-09-13 12:26:40.5 UTC", (SECOND, 500_000_000)),
        ("2020-09-13 14:26:40.5 +0200", (SECOND, 500_000_000)),
        ("2020-09-13 12:26:40.5+00", (SECOND, 500_000_000)),
        ("20200913T122640.5", (SECOND, 500_000_000)),
        ("1969-12-31T23:59:59.25Z", (-1, 250_000_000)),
    ],
)
def test_a_time_is_whole_seconds_and_nanoseconds(
    tmp_path: Path, written: str, moment: tuple[int, int]
) -> None:
    assert moments(read(tmp_path, [written])[0]) == [moment]


TENTHS = range(12)
WITHIN_A_SECOND: dict[str, list[str] | pl.Series] = {
    "ISO 8601": [f"2020-09-01T10:00:00.{tenth:03}" for tenth in TENTHS],
    "ISO 8601 to the nanosecond": [f"2020-09-01T10:00:00.0000000{tenth:02}Z" for tenth in TENTHS],
    "decimal seconds": [f"1598954400.{tenth:02}" for tenth in TENTHS],
    "milliseconds": [f"{1598954400000 + tenth}" for tenth in TENTHS],
    "microseconds": [f"{1598954400000000 + tenth}" for tenth in TENTHS],
    "nanoseconds": [f"{1598954400000000000 + tenth}" for tenth in TENTHS],
    "datetimes of milliseconds": pl.Series(
        [datetime(2020, 9, 1, 10, 0, 0, 1000 * tenth) for tenth in TENTHS], dtype=pl.Datetime("ms")
    ),
    "datetimes of microseconds": pl.Series(
        [datetime(2020, 9, 1, 10, 0, 0, tenth) for tenth in TENTHS], dtype=pl.Datetime("us")
    ),
    "datetimes of nanoseconds": pl.Series([1598954400000000000 + tenth for tenth in TENTHS]).cast(
        pl.Datetime("ns", "Asia/Tokyo")
    ),
    "floats": pl.Series([1598954400 + tenth / 100 for tenth in TENTHS]),
    "decimals": pl.Series([Decimal(1598954400) + Decimal(tenth).scaleb(-9) for tenth in TENTHS]),
    "nanoseconds as unsigned integers": pl.Series(
        [1598954400000000000 + tenth for tenth in TENTHS], dtype=pl.UInt64
    ),
}


@pytest.mark.parametrize("form", WITHIN_A_SECOND)
def test_the_order_within_a_second_is_that_of_the_source(tmp_path: Path, form: str) -> None:
    dataset, report = read(tmp_path, WITHIN_A_SECOND[form])
    assert dataset.events["item_id"].to_list() == [f"i{tenth}" for tenth in TENTHS]
    assert {second for second, _ in moments(dataset)} == {1598954400} and not any(
        "hash" in note for note in report.notes
    )


@pytest.mark.parametrize("time", ["1598954400", "1598954400.5", "2020-09-01T10:00:00.5", "5", "0"])
def test_seconds_and_dates_are_nothing_to_note(tmp_path: Path, time: str) -> None:
    assert read(tmp_path, [time])[1].notes == []


@pytest.mark.parametrize(
    ("times", "note"),
    [
        (["1598954400000", "0"], "2 of 2 values are taken as Unix milliseconds, by the size of the largest, "
         'for instance "1598954400000" in line 2, read as 2020-09-01T10:00:00Z.'),
        (["1598954400000000"], "are taken as Unix microseconds"),
        (["1598954400000000000"], "are taken as Unix nanoseconds"),
        (["20140723"], 'are taken as dates without dashes, for instance "20140723" in line 2, '
         "read as 2014-07-23."),
        (["5", "1598954400.12345678901"],
         '1 of 2 values have digits beyond nanoseconds, which are cut off, for instance "1598954400.'),
        (["2020-09-01T10:00:00.1234567891Z"], "1 of 1 values have digits beyond nanoseconds"),
        (["2020-09-01T10:00:00", "2020-09-01T10:00:01Z"],
         "1 of 2 values name no zone where others do, and are taken as UTC"),
    ],
)  # fmt: skip
def test_what_times_are_taken_for_is_noted(tmp_path: Path, times: list[str], note: str) -> None:
    assert len(notes := read(tmp_path, times)[1].notes) == 1 and note in notes[0]
    assert notes[0].startswith('interactions.csv, column "timestamp": ')


def test_floats_of_32_bits_are_noted_and_read_as_they_are(tmp_path: Path) -> None:
    dataset, report = read(tmp_path, pl.Series([1.6e9, 1.6e9 + 256], dtype=pl.Float32))
    assert (
        moments(dataset) == [(SECOND, 0), (SECOND + 256, 0)]
        and "2 of 2 values are 32-bit floats" in report.notes[0]
    )


def test_dates_of_parquet_are_midnights(tmp_path: Path) -> None:
    assert moments(read(tmp_path, pl.Series([date(2020, 9, 13), date(1969, 12, 31)]))[0]) == [
        (-86_400, 0),
        (1_599_955_200, 0),
    ]


@pytest.mark.parametrize(
    ("times", "fault"),
    [
        (["1598954400", "1598954400000"],
         '"1598954400" looks like Unix seconds where other rows hold Unix milliseconds'),
        (["1598954400000000", "1598954400000"],
         "looks like Unix milliseconds where other rows hold Unix microseconds"),
        (["20141301", "soon"], '"soon" is not a number as in the rows above'),
        (["2014-07-23", "07/23/2014"], '"07/23/2014" is not an ISO 8601 date as in the rows above'),
        (["1e99999999999999999999"], '"1e99999999999999999999" is not a time'),
        (["99999999999999999999"], '"99999999999999999999" is not a time'),
        (pl.Series([float("inf")]), "inf is not a time"),
        (pl.Series([True]), "True is not a time"),
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(tmp_path: Path, times: list[str] | pl.Series, fault: str) -> None:
    with pytest.raises(BadValue) as caught:
        read(tmp_path, times)
    assert fault in str(caught.value)


@pytest.mark.parametrize("wrong", ["07/23/2014", "23.07.2014 10:15", "July 2014", "nan", "0x10"])
def test_the_forms_that_a_refusal_names_are_read(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(BadValue, match="Unix seconds .* ISO 8601") as caught:
        read(tmp_path, [wrong])
    named = re.findall(r"\d{4}[\d.:TZ-]+\b", str(caught.value).partition("write every time")[2])
    assert len(named) == 3
    for form in named:
        assert moments(read(tmp_path, [form])[0])[0][0] == 1406110500
