"""Inspection: every figure of a small data set worked by hand, every warning by a data set that earns it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shelftalk.data.inspection import inspect_dataset
from shelftalk.data.protocol import SplitSettings
from shelftalk.data.sources import DataSettings, read_dataset
from tests.end_to_end.tiny import call

DAY = 86_400
SPLIT = SplitSettings(ranking_negatives=5)


def save(folder: Path, rows: list[tuple[object, ...]], items: list[tuple[object, ...]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, header, lines in (
        ("interactions", "user_id,item_id,timestamp,rating", rows),
        ("items", "item_id,title", items),
    ):
        text = "\n".join([header, *(",".join(map(str, line)) for line in lines)])
        (folder / f"{name}.csv").write_text(text + "\n")
    return folder


def record(folder: Path, split: SplitSettings = SPLIT, **others: Any) -> dict[str, Any]:
    given = DataSettings.model_validate({"folder": str(folder)} | others)
    dataset, report = read_dataset(given, seed=0, order_needed=False)
    return inspect_dataset(dataset, report, split, 0)


SMALL = [
    *(("a", f"i{n}", n * DAY + 3600, 5) for n in range(6)),
    *(("b", f"i{n}", n * DAY, 4) for n in range(3)),
    ("c", "i0", 7 * DAY, 3),
]
ITEMS = [(f"i{n}", f"Film {chr(65 + n)}") for n in range(12)]


def test_the_figures_of_a_small_data_set_are_those_worked_by_hand(tmp_path: Path) -> None:
    held = record(save(tmp_path, SMALL, ITEMS))
    sections = held["sections"]
    assert sections["Counts"] == {
        "users": 3, "items": 12, "items with an interaction": 6, "interactions": 10, "density": "27.7778%",
        "repeats of a user and an item, dropped": 0,
    }  # fmt: skip
    tail = sections["Long tail"]  # i0 3, i1 2, i2 2, i3 to i5 1 each
    assert tail["interactions of the most popular 10% of the items"] == "30.0%"
    assert (tail["items without an interaction"], tail["items with one"]) == (6, 3)
    # Gini of 0 x 6, 1, 1, 1, 2, 2, 3: 2 * (7 + 8 + 9 + 20 + 22 + 36) / (12 * 10) - 13 / 12
    assert tail["Gini index of the items"] == "0.617"
    histories = sections["Histories"]
    assert (histories["shortest"], histories["median"], histories["longest"]) == (1, "3", '6 (user "a")')
    assert histories["users with fewer than three"] == 1
    times = sections["Times"]
    assert (times["first"], times["last"], times["resolution"]) == ("1970-01-01", "1970-01-08", "hours")
    ratings = sections["Ratings"]
    assert (ratings["values"], ratings["mean"], ratings["most common"]) == (
        "3, from 3 to 5",
        "4.500",
        "5 (60.0%)",
    )
    assert sections["k-core"]["2-core"] == "2 users, 3 items, 6 interactions"
    assert sections["k-core"]["3-core"] == "nothing"
    assert held["charts"]["Users by length of history"] == [("1", 1), ("2-3", 1), ("4-7", 1)]
    assert held["charts"]["Items by interactions"] == [("0", 6), ("1", 3), ("2-3", 3)]
    assert held["tasks"]["retrieval"] == "yes, for 2 users" and held["tasks"]["ranking"] == "yes, for 2 users"


def warned(held: dict[str, Any], text: str) -> bool:
    return any(text in sentence for sentence in held["warnings"])


@pytest.mark.parametrize(
    ("rows", "items", "text"),
    [
        (SMALL, ITEMS, "1 of 3 users have fewer than three interactions"),
        (SMALL, ITEMS, "10 times are before July 1979 or in the future"),
        (SMALL, [*ITEMS[:10], ("i10", "film  a"), ("i11", "")], "2 items share their title with another"),
        (SMALL, [*ITEMS[:11], ("i11", "title_7")], '1 titles: placeholders, for instance "title_7"'),
        (SMALL, [*ITEMS[:11], ("i11", "A &amp; B")], "1 titles: with markup or HTML entities"),
        ([("test_user", *row[1:]) if row[0] == "a" else row for row in SMALL], ITEMS,
         '1 users are named like test accounts, for instance "test_user"'),
        ([*SMALL, *(("d", *row[1:]) for row in SMALL[:6])], ITEMS,
         "2 users have the same five items or more in the same order as another"),
        ([*SMALL, *(("d", f"x{n}", 1000, 5) for n in range(25))],
         [*ITEMS, *((f"x{n}", f"X{n}") for n in range(25))],
         '1 users have 20 interactions or more at one moment, for instance "d": set data.filters.max_'),
        ([(*row[:2], row[2] // DAY * DAY, row[3]) for row in SMALL], ITEMS, "Times are whole days"),
        ([(*row[:2], 10**9, row[3]) for row in SMALL], ITEMS, "For 66.7% of the users the last two"),
        ([(*row[:2], "", row[3]) for row in SMALL], ITEMS, "Nothing orders the interactions"),
        ([(*row[:3], 5) if row[0] != "c" else row for row in SMALL], ITEMS, "90.0% of the ratings are 5"),
        (SMALL, [*ITEMS, *((f"n{n}", f"N{n}") for n in range(9))], "15 of 21 items have no interaction"),
        (SMALL, ITEMS, "A 3-core leaves nothing of this data"),
        (SMALL, [(item, "") for item, _ in ITEMS], "No item has a title"),
        ([*SMALL, *(("a", f"i{n}", 9 * DAY, 1) for n in range(6, 10))], ITEMS, 'user "a" only 2'),
        ([row for row in SMALL if row[0] == "c"], ITEMS, "The data cannot be divided as it is"),
    ],
)  # fmt: skip
def test_what_will_go_wrong_is_said(
    tmp_path: Path, rows: list[tuple[object, ...]], items: list[tuple[object, ...]], text: str
) -> None:
    held = record(
        save(tmp_path, rows, items), split=SplitSettings(ranking_negatives=5, scheme="leave_one_out")
    )
    assert warned(held, text), held["warnings"]


def test_a_sound_data_set_is_not_warned_of_what_it_does_not_have(tmp_path: Path) -> None:
    rows = [
        (f"u{user}", f"i{(user * 7 + n * n) % 40}", 10**9 + user * 1000 + n * 4321, 1 + (user + n) % 5)
        for user in range(60)
        for n in range(6)
    ]
    held = record(save(tmp_path, rows, [(f"i{n}", f"Book of {n} pages") for n in range(40)]))
    assert [w for w in held["warnings"] if "intervals will be wide" not in w and "order" not in w] == []


def test_the_command_writes_a_page_and_prints_the_same(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> & co"
    folder = save(tmp_path / "shop", SMALL, [*ITEMS[:11], ("i11", evil)])
    page = tmp_path / "page.html"
    printed = call("inspect", folder, "--out", page)
    assert printed.exit_code == 0, printed.output
    assert "What will go wrong" in printed.stdout and f"Page: {page}" in printed.stdout
    html = page.read_text("utf-8")
    assert "<script>alert" not in html and "&lt;script&gt;" in html and html.count("<svg") == 4
    assert "http://" not in html and "https://" not in html
    held = json.loads(call("inspect", folder, "--out", page, "--json").stdout)
    assert held["sections"]["Counts"]["interactions"] == 10 and held["page"] == str(page)
    for warning in held["warnings"]:
        assert warning in printed.stdout
    by_files = call(
        "inspect", "--interactions", folder / "interactions.csv", "--items", folder / "items.csv",
        "--out", page, "--json",
    )  # fmt: skip
    assert json.loads(by_files.stdout)["sections"] == held["sections"]
