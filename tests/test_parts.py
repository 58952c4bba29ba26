"""The menu leads from every name to a thing, and from a wrong name to the nearest one."""

from __future__ import annotations

import pytest

from shelftalk import parts
from shelftalk.errors import UnknownPart

MENUS = {"index scheme": parts.INDEXINGS, "task": parts.TASKS, "model": parts.MODELS}
ENTRIES = [(kind, name) for kind, menu in MENUS.items() for name in menu]


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_entry_can_be_loaded(kind: str, name: str) -> None:
    assert callable(parts.load(MENUS[kind], name, kind))


def test_every_task_bears_the_name_under_which_it_stands() -> None:
    assert [parts.load(parts.TASKS, name, "task").name for name in parts.TASKS] == list(parts.TASKS)


def test_what_the_menu_says_about_names_is_about_names_that_it_holds() -> None:
    assert set(parts.SERVED) <= set(parts.TASKS)
    assert set(parts.NEED_TRAINING) | set(parts.ONLY_RATE) <= set(parts.MODELS)


def test_a_thing_of_your_own_is_named_by_its_address() -> None:
    assert parts.load(parts.TASKS, "collections:Counter", "task")() == {}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("retreival", 'did you mean "retrieval"'),
        ("nowhere:Thing", "install"),
        ("collections:Nothing", "mend the name"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_known_one(name: str, words: str) -> None:
    with pytest.raises(UnknownPart, match=words):
        parts.load(parts.TASKS, name, "task")
