"""Filters: every condition against a plain reading of the records, and wrong labels named with the nearest
right one."""

from __future__ import annotations

import gc
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.data import item_filter
from shelftalk.data.dataset import Dataset, make_dataset
from shelftalk.data.item_filter import allowed
from shelftalk.errors import UnknownItem, UnknownLabel
from shelftalk.records import Filter, Item, Request
from shelftalk.testing.worlds import nasty_world, tiny_world

SHELF = (
    Item("nail", "Red", "OPI", "Beauty > Makeup > Nails", 8.0),
    Item("soap", "Plain", "", "Beauty > Bath & Body", None),
    Item("film", "Heat", "Warner", "Crime ;Thriller", 12.5),
    Item("both", "Odd", "opi ", "Nails|thriller", 0.0),
    Item("bare"),
)


def shelf() -> Dataset:
    columns = {
        "item_id": "id",
        "title": "title",
        "brand": "brand",
        "categories": "categories",
        "price": "price",
    }
    items = pl.DataFrame({name: [getattr(item, field) for item in SHELF] for name, field in columns.items()})
    return make_dataset(items, pl.DataFrame({"user_id": ["u"], "item_id": ["nail"], "position": [0]}))


def passing(data: Dataset, wanted: Filter) -> set[str]:
    return {
        item
        for item, passes in zip(data.item_ids, allowed(data.items, wanted).tolist(), strict=True)
        if passes
    }


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        (Filter(), {"nail", "soap", "film", "both", "bare"}),
        (Filter(categories=("Nails",)), {"nail", "both"}),
        (Filter(categories=("  beauty",)), {"nail", "soap"}),
        (Filter(categories=("bath &  body", "CRIME")), {"soap", "film"}),
        (Filter(categories=("Beauty > Makeup > Nails",)), {"nail"}),
        (Filter(brands=("Opi",)), {"nail", "both"}),
        (Filter(brands=("OPI", "Warner"), categories=("thriller",)), {"film", "both"}),
        (Filter(min_price=8.0), {"nail", "film"}),
        (Filter(max_price=8.0), {"nail", "both"}),
        (Filter(min_price=8.0, max_price=8.0), {"nail"}),
        (Filter(max_price=0), {"both"}),
        (Filter(only=("bare", "film", "film")), {"bare", "film"}),
        (Filter(only=("bare", "film"), min_price=1), {"film"}),
        (Filter(only=()), set()),
        (Filter(categories=("Nails",), brands=("Warner",)), set()),
    ],
)
def test_every_condition_that_is_given_must_hold(wanted: Filter, passes: set[str]):
    assert passing(shelf(), wanted) == passes


WORLD = tiny_world()
LABELS = st.lists(st.sampled_from(["tea", "LAMPS", " boots"]), max_size=2).map(tuple)
BRANDS = st.lists(st.sampled_from(["Northwind", "halden"]), max_size=2).map(tuple)
LOW = st.none() | st.sampled_from([0.0, 10.0, 40.0])
HIGH = st.none() | st.sampled_from([40.0, 90.0])
ONLY = st.none() | st.lists(st.sampled_from(WORLD.item_ids), max_size=30).map(tuple)


@settings(max_examples=60, deadline=None)
@given(st.builds(Filter, LABELS, BRANDS, LOW, HIGH, ONLY))
def test_a_mask_is_what_reading_the_records_one_by_one_gives(wanted: Filter):
    def passes(item: Item) -> bool:
        priced = item.price is not None
        return (
            (
                not wanted.categories
                or item.categories in {label.strip().lower() for label in wanted.categories}
            )
            and (not wanted.brands or item.brand.lower() in {brand.lower() for brand in wanted.brands})
            and (wanted.min_price is None or (priced and item.price >= wanted.min_price))
            and (wanted.max_price is None or (priced and item.price <= wanted.max_price))
            and (wanted.only is None or item.id in wanted.only)
        )

    assert allowed(WORLD.items, wanted).tolist() == [passes(WORLD.item(item)) for item in WORLD.item_ids]


def test_every_label_of_a_catalogue_can_be_filtered_by_as_it_is():
    world = nasty_world()
    for item in map(world.item, world.item_ids):
        if item.categories.strip():
            assert item.id in passing(world, Filter(categories=(item.categories,)))
        if item.brand.strip():
            assert item.id in passing(world, Filter(brands=(item.brand,)))


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (
            Filter(categories=("Nail",)),
            'no item of the catalogue has the category "Nail"; did you mean "Nails"?',
        ),
        (Filter(categories=("Beauty > Nails", "Nails")), 'category "Beauty > Nails"; did you mean'),
        (Filter(brands=("O.P.I",)), 'no item of the catalogue has the brand "O.P.I"; did you mean "OPI"?'),
        (Filter(brands=("Nobody's",)), 'it has 2, such as "OPI", "Warner".'),
        (Filter(brands=("",)), 'has the brand ""; it has 2'),
        (Filter(categories=("Nails, Makeup",), only=()), 'category "Nails, Makeup"'),
    ],
)
def test_a_label_that_no_item_has_is_an_error_with_the_nearest_known_one(wanted: Filter, sentence: str):
    with pytest.raises(UnknownLabel, match=re.escape(sentence)):
        allowed(shelf().items, wanted)


def test_a_catalogue_without_labels_is_reported():
    data = shelf()
    bare = data.items.with_columns(brand=pl.lit(""), categories=pl.lit(" "))
    with pytest.raises(UnknownLabel, match="no item has any brand, so leave it out"):
        allowed(bare, Filter(brands=("OPI",)))
    with pytest.raises(UnknownLabel, match="no item has any category"):
        allowed(bare, Filter(categories=("Nails",)))
    unpriced = data.items.with_columns(price=pl.lit(None, pl.Float64))
    for wanted in (Filter(min_price=0.0), Filter(max_price=20.0)):
        with pytest.raises(
            UnknownLabel, match="no item of the catalogue has a price; leave min_price and max_price out"
        ):
            allowed(unpriced, wanted)


@pytest.mark.parametrize("unknown", ["nowhere", ""])
def test_an_item_outside_the_catalogue_is_named(unknown: str):
    fault = f'item "{unknown}" of a filter is not in the catalogue; leave it out'
    with pytest.raises(UnknownItem, match=fault):
        allowed(shelf().items, Filter(only=("nail", unknown)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"categories": "tea"}, {"brands": ["OPI"]}, {"only": {"nail"}}, {"categories": None},
        {"only": (1, 2)}, {"min_price": 9.0, "max_price": 1.0}, {"max_price": "20"},
        {"min_price": float("nan")},
    ],
)  # fmt: skip
def test_a_filter_that_can_only_be_a_mistake_is_refused(wrong: dict):
    with pytest.raises(ValueError, match="filter: "):
        Filter(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"history": "12"}, {"history": (), "candidates": "12"}, {"history": (), "excluded": "12"}]
)
def test_one_text_is_no_list_of_items(wrong: dict):
    with pytest.raises(ValueError, match="is one text; give a tuple of item ids"):
        Request("u", **wrong)


def test_equal_filters_share_one_mask_that_nobody_can_change():
    data = shelf()
    mask = allowed(data.items, Filter(brands=("OPI",)))
    assert allowed(data.items, Filter(brands=("OPI",))) is mask
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = True
    other = shelf()
    assert allowed(other.items, Filter(brands=("OPI",))) is not mask


def test_what_is_kept_of_a_catalogue_leaves_with_it():
    data, before = tiny_world(seed=5), len(item_filter._CONDITIONS)
    assert allowed(data.items, Filter(categories=("tea",))).sum() == 15
    assert len(item_filter._CONDITIONS) == before + 1
    del data
    gc.collect()
    assert len(item_filter._CONDITIONS) == before


def test_only_few_lists_of_items_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(item_filter, "LISTED_MASKS", 2)
    data = tiny_world(seed=7)
    wanted = [Filter(only=(item,)) for item in data.item_ids[:3]]
    masks = [allowed(data.items, one) for one in wanted]
    assert allowed(data.items, wanted[2]) is masks[2]
    assert (
        allowed(data.items, wanted[0]) is not masks[0]
        and allowed(data.items, wanted[0]).tolist() == masks[0].tolist()
    )


def test_masks_beyond_what_may_be_kept_are_made_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(item_filter, "MASK_BYTES", 3 * len(WORLD.items))
    data = tiny_world(seed=6)
    first = allowed(data.items, Filter(max_price=1.0))
    for price in range(2, 5):
        allowed(data.items, Filter(max_price=float(price)))
    again = allowed(data.items, Filter(max_price=1.0))
    assert again is not first and np.array_equal(again, first)
