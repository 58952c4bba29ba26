"""What cannot be filtered or divided: the sentence is read, the data or the setting changed so, and it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shelftalk.data.dataset import Dataset, make_dataset
from shelftalk.data.filters import FilterSettings
from shelftalk.data.sources import DataSettings, read_dataset
from shelftalk.data.splitting import Split, SplitSettings, TrainingCore, split_dataset
from shelftalk.errors import MissingColumn, NothingLeft, SettingsError, ShelftalkError, TooFewEvents
from shelftalk.testing.worlds import DAY, START, tiny_world

WORLD = tiny_world(users=30, items=50)


def told(kind: type[ShelftalkError], call: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    with pytest.raises(kind) as error:
        call(*arguments, **named)
    return str(error.value)


def divided(data: Dataset, core: TrainingCore | None = None, **settings: Any) -> Split:
    return split_dataset(data, SplitSettings.model_validate({"ranking_negatives": 1} | settings), 0, core)


def rows(lengths: list[int], items: int = 9) -> Dataset:
    """Users with so many events each, one a day."""
    events = [
        (f"u{user}", f"i{(user + n) % items}", START + n * DAY)
        for user, length in enumerate(lengths)
        for n in range(length)
    ]
    return make_dataset(
        pl.DataFrame({"item_id": [f"i{n}" for n in range(items)]}),
        pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row"),
    )


# --- schemes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [[3, 3, 3], [2, 2, 1], [3, 1, 1, 1], [2, 1, 1], [2, 2]])
def test_users_that_cannot_be_held_out_whole_are_divided_by_every_remedy_that_is_named(
    lengths: list[int],
) -> None:
    """Other shares and another scheme are named only where they help."""
    data = rows(lengths)
    remedies = (
        told(TooFewEvents, divided, data, scheme="by_user").rstrip(".").partition("; ")[2].split(", or ")
    )
    assert remedies[0] == "give interactions of more users"
    divided(rows(lengths + 20 * [3]), scheme="by_user")
    for remedy in remedies[1:]:
        named = re.findall(r"split\.(\w+)", remedy)
        if named == ["scheme"]:
            divided(data, scheme=re.findall(r'"(\w+)"', remedy)[0])
        else:
            divided(data, scheme="by_user", **dict.fromkeys(named, 0.34))
    assert len(remedies) == 1 + (sum(one > 1 for one in lengths) > 1 and len(lengths) > 2) + (
        max(lengths) > 2
    )


@pytest.mark.parametrize("gap_days", [0.0, 5000.0])
def test_windows_without_a_target_have_one_by_each_setting_that_is_named(gap_days: float) -> None:
    wrong: dict[str, Any] = {"scheme": "global_time", "gap_days": gap_days}
    if not gap_days:
        wrong |= {"validation_from": date(2030, 1, 1), "test_from": date(2031, 1, 1)}
    named = re.findall(r"split\.(\w+)", told(SettingsError, divided, WORLD, **wrong))
    assert ("gap_days" in named) == bool(gap_days)  # a gap that is 0 can be no smaller
    good = {"validation_from": 0.8, "test_from": 0.9, "gap_days": 5.0}
    divided(WORLD, **wrong | {name: good[name] for name in named})


def test_times_against_the_order_and_events_without_an_order_are_divided_as_told() -> None:
    turned = WORLD.events.with_columns(timestamp=START + DAY * (1000 - pl.col("position")))
    data = make_dataset(WORLD.items, turned)
    for settings in ({"scheme": "global_time"}, {"ties": "shuffled"}):
        message = told(SettingsError, divided, data, **settings)
        order = re.findall(r'set data\.order = "(\w+)"', message)[0]
        divided(make_dataset(WORLD.items, turned, order=(order,)), **settings)
        left_out = re.findall(r"or leave split\.(\w+)", message)[0]
        divided(data, **{name: value for name, value in settings.items() if name != left_out})
    bare = make_dataset(WORLD.items, WORLD.events.drop("position", "timestamp", "nanosecond"))
    message = told(SettingsError, divided, bare, scheme="leave_one_out")
    divided(bare, scheme=re.findall(r'set split\.scheme = "(\w+)"', message)[0])


def test_so_many_events_are_held_out_of_each_user_as_the_sentence_says() -> None:
    data, last = rows([3, 5, 5]), 9
    for _ in range(9):
        try:
            divided(data, scheme="leave_last_n", last=last)
            break
        except TooFewEvents as error:
            last = int(re.findall(r"set split\.last below (\d+)", str(error))[0]) - 1
    assert last == 2
    message = told(TooFewEvents, divided, rows([2, 2]))
    assert message.endswith("give interactions over a longer time, or of more users.")
    divided(rows([3, 2]))
    divided(rows([2, 2, 3]))


# --- candidates and cores --------------------------------------------------------------------------------


def test_as_many_candidates_as_are_named_are_drawn_and_items_that_are_added_are_too() -> None:
    message = told(NothingLeft, divided, WORLD, ranking_negatives=99)
    most = int(re.findall(r"set split\.ranking_negatives = (\d+)", message)[0])
    assert divided(WORLD, ranking_negatives=most).candidates["test"].shape[1] == most + 1
    told(NothingLeft, divided, WORLD, ranking_negatives=most + 1)
    message = told(NothingLeft, divided, rows([3, 3], items=3))
    assert "add items that this user never took" in message
    wider = rows([3, 3], items=3)
    divided(
        make_dataset(
            pl.concat([wider.items.select("item_id"), pl.DataFrame({"item_id": ["new"]})]), wider.events
        )
    )


def test_a_part_whose_items_are_not_in_the_core_has_some_by_either_remedy() -> None:
    events = [(f"u{u}", f"i{n}", START + n * DAY) for u in range(4) for n in range(3)]
    events += [(f"u{u}", f"only-{u}-{n}", START + (9 + n) * DAY) for u in range(4) for n in range(2)]
    frame = pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row")
    data = make_dataset(frame.select("item_id").unique(), frame)
    message = told(TooFewEvents, divided, data, TrainingCore(3, False))
    assert 'set data.catalogue = "all" to keep them' in message
    assert len(divided(data, TrainingCore(3, True)).held_out_events("test")) == 4


# --- filters ---------------------------------------------------------------------------------------------

FILES = {
    "interactions.csv": "user_id,item_id,timestamp,rating\nu,a,1,2\nu,b,2,3\n",
    "items.csv": "item_id\na\nb\n",
}


def filtered(folder: Path, **filters: Any) -> int:
    settings = DataSettings(folder=str(folder), filters=FilterSettings.model_validate(filters))
    return len(read_dataset(settings, seed=0)[0])


def test_filters_loosened_or_left_out_as_the_sentence_says_leave_something(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    for name, tight, loose in (("min_rating", 4.0, 3.0), ("since", "2020-01-01", "1970-01-01T00:00:02")):
        message = told(NothingLeft, filtered, tmp_path, **{name: tight})
        assert message.startswith(f"data.filters.{name} = ") and message.endswith("loosen it.")
        assert filtered(tmp_path, **{name: loose}) == 1
    (tmp_path / "interactions.csv").write_text("user_id,item_id,position\nu,a,1\nu,b,2\n")
    for name, value in (("min_rating", 1.0), ("until", "2020-01-01")):
        assert "leave " in (message := told(MissingColumn, filtered, tmp_path, **{name: value}))
        assert f"data.filters.{'since and until' if name == 'until' else name}" in message
        assert filtered(tmp_path) == 2
    (tmp_path / "interactions.csv").write_text(FILES["interactions.csv"])
    assert filtered(tmp_path, until="2020-01-01", min_rating=1.0) == 2
