"""Ids that look equal and are not are reported by code points; words for missing values are noted."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from shelftalk.data.sources import DataSettings, read_dataset
from shelftalk.data.sources.lookalikes import appearance, difference, lookalike_hint, lookalike_ids
from shelftalk.errors import UnknownItem

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
HEAD = "user_id,item_id,timestamp\n"


def folder_of(folder: Path, interactions: str, items: str) -> DataSettings:
    (folder / "interactions.csv").write_text(interactions, encoding="utf-8")
    (folder / "items.csv").write_text(items, encoding="utf-8")
    return DataSettings(folder=str(folder), k_core=0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (COMPOSED, DECOMPOSED),
        ("a", "a "),
        ("a", " a"),
        ("a b", "a\u00a0b"),
        ("a", "\ufeffa"),
        ("ab", "a\u200bb"),
        ("A1", "\uff211"),
    ],
)
def test_what_differs_in_form_space_or_invisible_characters_looks_equal(one: str, other: str) -> None:
    assert appearance(one) == appearance(other)
    assert lookalike_ids(pl.Series([one, "z", other, one])) == [(other, one)]


def test_what_looks_different_is_not_a_pair() -> None:
    assert lookalike_ids(pl.Series(["a", "A", "b", COMPOSED, "cafe", "1", "1.0", "a-b"])) == []


@pytest.mark.parametrize(
    ("unknown", "known", "how"),
    [
        (
            DECOMPOSED,
            COMPOSED,
            "they look equal, but the first has U+0065 U+0301 where the second has U+00E9",
        ),
        ("b1 ", "b1", "they look equal, but the first has U+0020 where the second has nothing"),
        ("\ufeffb1", "b1", "they look equal, but the first has U+FEFF where the second has nothing"),
        ("B1", "b1", "they differ in case: the first has U+0042 where the second has U+0062"),
        ("123.0", "123", "they are one number: the first has U+002E U+0030 where the second has nothing"),
        ("007", "7", "they are one number: the first has U+0030 U+0030 where the second has nothing"),
    ],
)
def test_an_unknown_item_names_the_id_that_may_be_meant_and_following_the_remedy_helps(
    tmp_path: Path, unknown: str, known: str, how: str
) -> None:
    with pytest.raises(UnknownItem) as caught:
        read_dataset(folder_of(tmp_path, f"{HEAD}u,{unknown},1\n", f"item_id\nz\n{known}\n"), seed=0)
    assert f'which has "{known}" ({how}); write the id alike in both files' in str(caught.value)
    followed = folder_of(tmp_path, f"{HEAD}u,{known},1\n", f"item_id\nz\n{known}\n")
    assert read_dataset(followed, seed=0)[0].events["item_id"].to_list() == [known]


def test_an_id_like_no_other_has_no_hint() -> None:
    assert (
        lookalike_hint("q", ["a", "b"]) == ""
        and difference("aXc", "aYYc") == "the first has U+0058 where the second has U+0059 U+0059"
    )


def test_users_that_look_equal_stay_two_and_are_noted(tmp_path: Path) -> None:
    interactions = f'{HEAD}{COMPOSED},a,1\n{DECOMPOSED},a,2\n"u ",a,3\nu,a,4\n'
    dataset, report = read_dataset(folder_of(tmp_path, interactions, "item_id\na\n"), seed=0)
    assert sorted(dataset.user_ids) == sorted([COMPOSED, DECOMPOSED, "u ", "u"])
    assert len(report.notes) == 1 and "2 ids look equal to another and stay different ones" in report.notes[0]
    assert "U+0065 U+0301 where the second has U+00E9" in report.notes[0]


@pytest.mark.parametrize("word", ["nan", "None", "NULL", "<NA>", "NaT"])
def test_words_for_nothing_are_kept_and_noted(tmp_path: Path, word: str) -> None:
    given = folder_of(
        tmp_path, f"{HEAD}{word},a,1\n{word},b,2\nu,a,3\n", f"item_id,title\na,{word}\nb,Nanette\n"
    )
    dataset, report = read_dataset(given, seed=0)
    assert sorted(dataset.user_ids) == sorted([word, "u"]) and dataset.item("a").title == word
    titles, users = report.notes
    assert titles.startswith('items.csv, column "title": 1 of 2 values are a word for "nothing"')
    assert (
        users.startswith('interactions.csv, column "user_id": 2 of 3 values are a word for "nothing"')
        and f'"{word}" in line 2' in users
    )
