"""What is shown of an item beside its name: fields in their order, missing ones passed over, within a
budget."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelftalk.data.dataset import Dataset, make_dataset
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.records import Segment
from shelftalk.tasks.item_text import ItemText, TextSettings
from shelftalk.testing.task_exams import exam_index, world_split

ALL = ("title", "brand", "categories", "price")
FULL_ROW = {
    "title": "Red Kettle",
    "brand": "Acme",
    "categories": "Kitchen Tea",
    "price": 12.5,
    "description": "Boils.",
}


def item_text(row: dict[str, object], **more: object) -> ItemText:
    """The text of a catalogue of one item, "x"."""
    items = pl.DataFrame(
        [{**dict.fromkeys(FULL_ROW), **row, "item_id": "x"}], schema_overrides={"price": pl.Float64}
    )
    return ItemText(
        dataset_of(items),
        ItemIndex("symbols", ("x",), ("<a_1>",), symbols=True, end=""),
        TextSettings(**more),
    )


def dataset_of(items: pl.DataFrame) -> Dataset:
    return make_dataset(items, pl.DataFrame({"user_id": ["u"], "item_id": ["x"], "position": [0]}))


def test_title_brand_categories_and_price_are_in_the_requested_order():
    assert item_text(FULL_ROW, fields=ALL).details("x") == "Red Kettle, Acme, Kitchen Tea, price 12.5"
    assert item_text(FULL_ROW, fields=ALL[::-1]).details("x") == "price 12.5, Kitchen Tea, Acme, Red Kettle"
    assert item_text(FULL_ROW, fields=("description",)).details("x") == "Boils."


@pytest.mark.parametrize(
    "missing",
    [*([field] for field in ALL), ["title", "categories"], ["brand", "price", "categories"], list(ALL)],
)
def test_missing_fields_are_passed_over_without_a_trace(missing):
    whole = {"title": "Red Kettle", "brand": "Acme", "categories": "Kitchen Tea", "price": "price 12.5"}
    shown = item_text(
        {field: value for field, value in FULL_ROW.items() if field not in missing}, fields=ALL
    ).details("x")
    assert shown == ", ".join(text for field, text in whole.items() if field not in missing)


def test_an_item_without_any_text_is_shown_by_name_alone():
    text = item_text({}, fields=ALL)
    assert text.details("x") == "" and text.line("x") == [Segment("<a_1>", symbols=True), Segment("\n")]
    assert text.before_rating("x") == [Segment("<a_1>", symbols=True), Segment(":")]


@pytest.mark.parametrize(
    ("price", "shown"), [(0.0, "price 0"), (5.0, "price 5"), (1234.5, "price 1234.5"), (None, "")]
)
def test_prices_are_named_as_prices_and_a_missing_one_is_not_zero(price, shown):
    assert item_text({"price": price}, fields=("price",)).details("x") == shown


@given(st.text(max_size=80), st.text(max_size=30), st.integers(1, 60))
def test_the_text_beside_a_name_stays_on_its_line_and_within_its_budget(title, brand, budget):
    encodable = {
        "title": title.encode(errors="ignore").decode(),
        "brand": brand.encode(errors="ignore").decode(),
    }
    shown = item_text(encodable, fields=ALL, max_characters=budget).details("x")
    assert len(shown) <= budget and shown == shown.strip() and (shown.isprintable() or not shown)


def test_a_text_is_cut_between_words_and_the_name_is_not_of_the_budget():
    text = item_text(FULL_ROW, fields=ALL, max_characters=20)
    assert text.details("x") == "Red Kettle, Acme,"
    assert "".join(segment.text for segment in text.line("x")) == "<a_1> Red Kettle, Acme,\n"
    assert item_text({"title": "Kettlefishing"}, max_characters=6).details("x") == "Kettle"


def test_texts_alone_are_budgeted_and_bare_lines_have_none():
    text = item_text(FULL_ROW, fields=ALL)
    assert text.names_only.details("x") == "" and text.names_only.names_only is text.names_only
    assert text.line("x", bears_loss=True)[0].bears_loss and not text.line("x", bears_loss=True)[1].bears_loss


def test_the_fields_beside_a_name_are_shown_in_their_order_and_cut():
    split = world_split("tiny")
    item = next(
        item for item in split.dataset.item_ids if (row := split.dataset.item(item)).brand and row.price
    )
    row = split.dataset.item(item)
    shown = ItemText(
        split.dataset, exam_index(split), TextSettings(fields=("brand", "title", "price", "description"))
    )
    assert shown.details(item) == f"{row.brand}, {row.title}, price {row.price:g}"
    assert len(ItemText(split.dataset, exam_index(split), TextSettings(max_characters=9)).details(item)) <= 9
    bare = ItemText(split.dataset, exam_index(split), TextSettings(fields=()))
    assert [segment.text for segment in bare.line(item)] == [exam_index(split).name(item), "\n"]


def test_a_title_that_is_the_name_is_not_shown_twice():
    split = world_split("tiny")
    titled = replace(
        exam_index(split), scheme="titles", names=tuple(split.dataset.items["title"]), symbols=False, end="\n"
    )
    text = ItemText(split.dataset, titled, TextSettings())
    item = split.dataset.item_ids[0]
    assert "".join(segment.text for segment in text.line(item)) == split.dataset.item(item).title + "\n"
