"""The menu leads from every name to a thing, and from a wrong name to the nearest one."""

from __future__ import annotations

import collections
from inspect import signature
from typing import get_args

import pytest

from shelftalk import parts
from shelftalk.baselines.bias import BiasSettings
from shelftalk.decoding.prior import Prior
from shelftalk.errors import UnknownPart
from shelftalk.models.settings import NanoSettings
from shelftalk.recommender import tasks_of
from shelftalk.testing.exams import exam_split

MENUS = {
    "index scheme": parts.INDEXINGS,
    "task": parts.TASKS,
    "model": parts.MODELS,
    "family": parts.FAMILIES,
    "format": parts.FORMATS,
}
ENTRIES = [(kind, name) for kind, menu in MENUS.items() for name in menu]


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_entry_can_be_loaded(kind: str, name: str) -> None:
    assert callable(parts.load(MENUS[kind], name, kind))


def test_a_family_is_the_one_that_its_backbone_names_and_the_nano_model_can_be_of_each() -> None:
    assert [family.load().family for family in parts.FAMILIES.values()] == list(parts.FAMILIES)
    assert get_args(NanoSettings.model_fields["family"].annotation) == tuple(parts.FAMILIES)


def test_every_task_bears_the_name_under_which_it_stands() -> None:
    assert [parts.load(parts.TASKS, name, "task").name for name in parts.TASKS] == list(parts.TASKS)


def test_the_served_tasks_are_those_that_are_declared_as_served() -> None:
    assert list(parts.SERVED) == [name for name, task in parts.TASKS.items() if task.served]


@pytest.mark.parametrize(
    "name", [name for name, model in parts.MODELS.items() if model.stands_on == "prepare"]
)
def test_a_baseline_can_do_what_it_declares_and_nothing_else(name: str) -> None:
    declared = parts.MODELS[name]
    model = declared.load()(exam_split(), declared.settings(), 0)
    assert model.name == name
    assert tasks_of(model) == declared.tasks
    assert isinstance(model, Prior) == declared.scores_items


@pytest.mark.parametrize("name", list(parts.INDEXINGS))
def test_an_index_scheme_takes_the_text_vectors_that_it_declares_to_read(name: str) -> None:
    declared = parts.INDEXINGS[name]
    assert ("text_vectors" in signature(declared.load()).parameters) == declared.reads_text_vectors


def test_a_part_of_your_own_is_a_declaration_or_stands_for_one_with_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = parts.Model("collections:Counter", BiasSettings, tasks=("rating",))
    monkeypatch.setattr(collections, "OWN", own, raising=False)
    assert parts.declared(parts.MODELS, "collections:OWN", "model") is own
    assert parts.load(parts.MODELS, "collections:OWN", "model") is collections.Counter
    bare = parts.declared(parts.MODELS, "collections:Counter", "model")
    assert bare == parts.Model(collections.Counter)
    assert parts.load(parts.TASKS, "collections:Counter", "task")() == {}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("retreival", 'did you mean "retrieval"'),
        ("nowhere:Thing", "install"),
        ("collections:Nothing", "correct the name"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_known_one(name: str, words: str) -> None:
    with pytest.raises(UnknownPart, match=words):
        parts.load(parts.TASKS, name, "task")
