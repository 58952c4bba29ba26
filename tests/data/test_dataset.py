"""Dataset: validated once, free of file order, the same after a round trip."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.data.dataset import EVENT_COLUMNS, ITEM_COLUMNS, Dataset, make_dataset
from shelftalk.errors import BadValue, DuplicateItem, NothingLeft, UnknownItem
from shelftalk.records import Item
from shelftalk.testing.worlds import EVIL_TEXTS, nasty_world, tiny_world, untitled_world

ITEMS = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["A", None, "C"]})
EVENTS = pl.DataFrame({"user_id": ["u", "u", "v"], "item_id": ["a", "b", "a"], "timestamp": [2, 1, 5]})


def shuffled(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    return frame[np.random.default_rng(seed).permutation(len(frame))]


@settings(max_examples=30, deadline=None)
@given(order=st.integers(0, 2**32), seed=st.integers(0, 2**32), days=st.sampled_from([1, 10**7]))
def test_no_file_order_survives(order, seed, days):
    """Also where many events of a user are at the same time (whole units of `days` seconds)."""
    world = tiny_world(users=12, items=30, events=(3, 8))
    events = world.events.drop("position").with_columns(pl.col("timestamp") // days)
    one = make_dataset(world.items, events, seed)
    other = make_dataset(shuffled(world.items, order), shuffled(events, order + 1), seed)
    assert one.items.equals(other.items) and one.events.equals(other.events)


def test_another_seed_gives_another_catalogue_order_and_other_ties():
    world = tiny_world()
    events = world.events.drop("position").with_columns(timestamp=pl.lit(0))
    one, other = make_dataset(world.items, events, 1), make_dataset(world.items, events, 2)
    assert one.item_ids != other.item_ids and sorted(one.item_ids) == sorted(other.item_ids)
    assert (
        one.events.filter(user_id="u0")["item_id"].to_list()
        != other.events.filter(user_id="u0")["item_id"].to_list()
    )


def test_a_users_events_stand_together_oldest_first():
    dataset = make_dataset(ITEMS, EVENTS)
    assert dataset.events.filter(user_id="u").rows() == [("u", "b", 0, 1, None, 0), ("u", "a", 1, 2, None, 0)]
    assert dataset.bounds.tolist() in ([0, 2, 3], [0, 1, 3])
    assert [dataset.item_ids[row] for row in dataset.event_item] == dataset.events["item_id"].to_list()


def test_position_decides_where_time_disagrees():
    dataset = make_dataset(ITEMS, EVENTS.with_columns(position=pl.Series([4, 9, 1])))
    assert dataset.events.filter(user_id="u")["item_id"].to_list() == ["a", "b"]


def test_missing_columns_become_empty_texts_and_nulls():
    dataset = make_dataset(ITEMS, EVENTS)
    assert dataset.items.schema == ITEM_COLUMNS and dataset.events.schema == EVENT_COLUMNS
    assert dataset.item("b") == Item("b") and dataset.item("a").price is None
    assert not dataset.has_ratings and dataset.rating_values == [] and np.isnan(dataset.event_rating).all()


def test_events_without_position_and_time_stand_in_an_order_of_the_seed_and_not_of_the_file():
    bare = tiny_world().events.drop("position", "timestamp")
    one, other, again = (
        make_dataset(tiny_world().items, frame, seed)
        for frame, seed in ((bare, 0), (bare, 1), (bare.reverse(), 0))
    )
    assert not one.ordered and one.events["position"].null_count() == len(bare)
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()
    ends = (
        {user: item for user, item in data.events.select("user_id", "item_id").rows()}
        for data in (one, other)
    )
    first, second = ends
    assert sum(first[user] != second[user] for user in first) > 30  # of 60 users, with 6 to 12 events each


def test_taking_the_order_away_is_what_data_without_one_gives():
    world = tiny_world()
    bare = make_dataset(world.items, world.events.drop("position", "timestamp"), 5)
    assert world.ordered and world.without_order(5).fingerprint() == bare.fingerprint()
    assert bare.without_order(6) is bare


def test_saved_and_loaded_is_the_same(tmp_path):
    dataset = nasty_world()
    dataset.save(tmp_path / "dataset")
    loaded = Dataset.load(tmp_path / "dataset")
    assert loaded.items.equals(dataset.items) and loaded.events.equals(dataset.events)
    assert loaded.fingerprint() == dataset.fingerprint() != tiny_world().fingerprint()


@pytest.mark.parametrize(
    ("items", "events", "error", "message"),
    [
        (ITEMS.head(1), EVENTS, UnknownItem, 'item "b" of the interactions'),
        (pl.concat([ITEMS, ITEMS.head(1)]), EVENTS, DuplicateItem, 'item "a" is on more than one row'),
        (ITEMS, EVENTS.head(0), NothingLeft, "the interactions are empty"),
        (
            ITEMS,
            EVENTS.with_columns(timestamp=pl.Series([1, None, 2])),
            BadValue,
            'some of the interactions have a "timestamp"',
        ),
        (ITEMS, EVENTS.drop("user_id"), BadValue, "3 rows of the interactions have no user_id"),
        (
            ITEMS,
            EVENTS.with_columns(position=pl.Series([1, None, 2])),
            BadValue,
            'some of the interactions have a "position"',
        ),
        (ITEMS, pl.concat([EVENTS, EVENTS.head(1)]), BadValue, 'user "u" takes item "a" more than once'),
        (ITEMS, EVENTS.with_columns(timestamp=pl.lit("soon")), BadValue, '"timestamp" holds String'),
        (ITEMS, EVENTS.with_columns(timestamp=pl.lit(1.5)), BadValue, '"timestamp" holds Float64'),
        (
            ITEMS,
            EVENTS.with_columns(timestamp=pl.lit(2**63, pl.UInt64)),
            BadValue,
            '"timestamp" holds a value that is no number',
        ),
        (ITEMS, EVENTS.with_columns(rating=pl.lit("4.5")), BadValue, '"rating" holds String'),
        (
            ITEMS,
            EVENTS.with_columns(rating=pl.lit(float("nan"))),
            BadValue,
            '"rating" holds a value that is no number',
        ),
        (
            ITEMS.with_columns(price=pl.lit(float("inf"))),
            EVENTS,
            BadValue,
            '"price" holds a value that is no number',
        ),
        (ITEMS.with_columns(item_id=pl.Series([1.0, 2.0, 3.0])), EVENTS, BadValue, '"item_id" holds Float64'),
        (
            ITEMS.with_columns(title=pl.Series([["x"], ["y"], []])),
            EVENTS,
            BadValue,
            '"title" holds List(String)',
        ),
        (
            ITEMS.with_columns(title=pl.Series([object()] * 3, dtype=pl.Object)),
            EVENTS,
            BadValue,
            '"title" holds Object',
        ),
    ],
)
def test_what_is_not_valid_does_not_become_a_dataset(items, events, error, message):
    with pytest.raises(error) as caught:
        make_dataset(items, events)
    assert message in str(caught.value)


def test_integers_and_categories_may_be_ids():
    events = EVENTS.with_columns(user_id=pl.Series([7, 7, 8]), item_id=pl.col("item_id").cast(pl.Categorical))
    assert sorted(make_dataset(ITEMS, events).user_ids) == ["7", "8"]


def test_the_nasty_world_has_every_evil_title_and_the_untitled_none():
    titles = nasty_world().items["title"].to_list()
    assert sorted(
        title for title in titles if titles.count(title) != 1 or "Plain thing" not in title
    ) == sorted(EVIL_TEXTS)
    untitled = untitled_world()
    assert (
        set(untitled.items["title"]) == {""}
        and "tea" in set(untitled.items["categories"])
        and not untitled.has_ratings
    )


def test_the_tiny_world_can_be_learned():
    """Four of five steps stay within a category, where chance would be one of eight."""
    world = tiny_world()
    category = dict(zip(world.items["item_id"], world.items["categories"], strict=True))
    steps = [
        category[one] == category[other]
        for user in world.events.partition_by("user_id")
        for one, other in zip(user["item_id"], user["item_id"][1:], strict=False)
    ]
    assert np.mean(steps) > 0.7
    assert tiny_world().fingerprint() == world.fingerprint() != tiny_world(seed=1).fingerprint()
