"""What orders a user's events: one column, or two where a position is a position on a page."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from shelftalk.data.dataset import make_dataset, order_of
from shelftalk.data.sources import DataReport, DataSettings, read_dataset
from shelftalk.errors import DataError

HEAD = "user_id,item_id,position,timestamp\n"
BASKETS = HEAD + "u,a,1,100\nu,b,2,100\nu,c,1,200\nu,d,2,200\n"
"""Two baskets: the position counts within each."""
LIST = HEAD + "u,a,1,100\nu,b,2,100\nu,c,3,100\nu,d,4,200\n"
AGAINST = HEAD + "u,a,1,400\nu,b,2,300\nu,c,3,350\nu,d,4,100\n"


def read(folder: Path, interactions: str, order: str | None = None) -> tuple[str, DataReport]:
    """The items in the order of the only user."""
    (folder / "interactions.csv").write_text(interactions)
    (folder / "items.csv").write_text("item_id\na\nb\nc\nd\n")
    given = {"folder": str(folder), "k_core": 0} | ({"order": order} if order else {})
    dataset, report = read_dataset(DataSettings.model_validate(given), seed=0)
    return "".join(dataset.events["item_id"]), report


@pytest.mark.parametrize(
    ("interactions", "order", "items", "ordered_by"),
    [
        (BASKETS, None, "abcd", "timestamp, then position"),
        (BASKETS, "position", "acbd", "position, then timestamp"),
        (LIST, None, "abcd", "position"),
        (LIST, "position", "abcd", "position"),
        (AGAINST, None, "abcd", "position"),
        (AGAINST, "timestamp", "dbca", "timestamp"),
    ],
)
def test_what_orders_is_decided_and_can_be_chosen(
    tmp_path: Path, interactions: str, order: str | None, items: str, ordered_by: str
) -> None:
    held, report = read(tmp_path, interactions, order)
    assert (held, report.ordered_by) == (items, ordered_by)


def test_a_position_that_does_not_order_is_noted_with_a_count_an_example_and_the_setting(
    tmp_path: Path,
) -> None:
    _, report = read(tmp_path, BASKETS)
    assert report.notes == [
        "interactions.csv: 4 interactions share their position with another of their user, for instance user "
        '"u" has position 1 more than once, so events are ordered by timestamp, then position; '
        'set data.order = "position" if positions are to order.'
    ]


def test_times_that_contradict_the_position_are_noted(tmp_path: Path) -> None:
    _, report = read(tmp_path, AGAINST)
    assert (
        len(report.notes) == 1
        and "2 interactions have a later position and an earlier timestamp" in report.notes[0]
    )
    assert (
        'for instance user "u" in line 3' in report.notes[0]
        and 'set data.order = "timestamp"' in report.notes[0]
    )
    assert read(tmp_path, LIST)[1].notes == []


def test_a_repeated_row_does_not_disable_the_position(tmp_path: Path) -> None:
    _, report = read(tmp_path, LIST + "u,d,4,200\n")
    assert report.ordered_by == "position" and "1 of 5 rows repeat a user and an item" in report.notes[0]


def test_a_position_is_not_read_where_times_are_to_order(tmp_path: Path) -> None:
    assert read(tmp_path, HEAD + "u,a,first,2\nu,b,,1\n", "timestamp")[0] == "ba"


@pytest.mark.parametrize("interactions", [HEAD + "u,a,1,2\nu,b,,1\n", HEAD + "u,a,1.5,2\nu,b,2,1\n"])
def test_an_incomplete_or_broken_position_names_the_setting_that_leaves_it_out(
    tmp_path: Path, interactions: str
) -> None:
    with pytest.raises(DataError, match='data.order = "timestamp"'):
        read(tmp_path, interactions)
    assert read(tmp_path, interactions, "timestamp")[0] == "ba"


@pytest.mark.parametrize("order", ["position", "timestamp"])
def test_an_order_by_a_column_that_is_not_there_is_refused(tmp_path: Path, order: str) -> None:
    other = "timestamp" if order == "position" else "position"
    interactions = f"user_id,item_id,{other}\nu,a,2\nu,b,1\n"
    with pytest.raises(DataError, match=f'has no "{order}" to order by; leave data.order out'):
        read(tmp_path, interactions, order)
    assert read(tmp_path, interactions)[0] == "ba"


def test_what_only_a_hash_orders_is_counted(tmp_path: Path) -> None:
    _, report = read(tmp_path, "user_id,item_id,timestamp\nu,a,1\nu,b,1\nu,c,2\n")
    assert report.notes == [
        '2 of 3 interactions have the same timestamp as another of their user, for instance of user "u", '
        "and are in the order of a seeded hash."
    ]


def test_fractions_order_a_dataset_and_their_range_is_checked() -> None:
    items = pl.DataFrame({"item_id": ["a", "b"]})
    events = pl.DataFrame(
        {"user_id": ["u", "u"], "item_id": ["a", "b"], "timestamp": [5, 5], "nanosecond": [2, 1]}
    )
    assert make_dataset(items, events).events["item_id"].to_list() == ["b", "a"]
    assert order_of(events) == ("timestamp", "nanosecond") and order_of(events.drop("timestamp")) == ()
    with pytest.raises(DataError, match="outside 0 to 999,999,999"):
        make_dataset(items, events.with_columns(nanosecond=pl.lit(10**9)))
