"""Settings: the role of a field, and a commented TOML file that loads to what it was written from."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from shelftalk.experiment import TUNABLE, Experiment, load_experiment
from shelftalk.settings import Role, Settings, commented_toml

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
FILES = [
    path
    for path in sorted(EXPERIMENTS.rglob("*.toml"))
    if not {"ablations", "tuning"} & set(path.relative_to(EXPERIMENTS).parts)
]


class Inner(Settings):
    """A section."""

    role = Role(stages=("train",), tunable=True)
    plain: int = 1
    """As the section."""
    fixed: Annotated[int, Role(tunable=False, why="it is fixed")] = 2
    """Its own role gives a part."""
    unread: Annotated[int, Role(stages=())] = 3
    """No stage depends on it."""


class Outer(Settings):
    """What holds the section, and tables by name."""

    inner: Inner = Inner()
    several: Annotated[dict[str, Inner], Role(changes_loss=True)] = {}
    """Tables by name."""
    bare: str | None = None
    """It declares nothing."""


def test_a_field_has_its_own_role_completed_by_that_of_its_section() -> None:
    assert Inner.role_of("plain") == Role(("train",), tunable=True)
    assert Inner.role_of("fixed") == Role(("train",), tunable=False, why="it is fixed")
    assert Inner.role_of("unread") == Role((), tunable=True)
    assert Outer.role_of("inner") == Inner.role and Outer.role_of("bare") == Role()


def test_a_path_leads_through_sections_and_tables_by_name() -> None:
    outer = Outer(several={"a:b": Inner()})
    assert outer.role_at(("inner", "fixed")) == Inner.role_of("fixed")
    assert outer.role_at(("several", "a:b", "unread")) == Role((), tunable=True, changes_loss=True)
    assert outer.role_at(("inner", "nothing")) == Inner.role


def test_fields_are_chosen_by_their_role_at_any_depth() -> None:
    assert Outer.fields_where(lambda role: role.tunable is False) == {"inner": {"fixed": True}}
    assert Outer.fields_where(lambda role: bool(role.stages)) == {"inner": True}
    assert Inner().read_by("train") == {"plain": 1, "fixed": 2} and Inner().read_by("write") == {}


def test_a_tuner_may_change_these_sections() -> None:
    sections = ("index", "text", "tasks", "nano", "pretrained", "teacher", "training", "decoding")
    assert sections == TUNABLE


def test_each_setting_that_a_tuner_may_not_change_within_these_sections_has_a_reason() -> None:
    fixed = Experiment.fields_where(lambda role: role.tunable is False)
    assert {name: set(fields) for name, fields in fixed.items()} == {
        "training": {
            "epochs", "max_steps", "patience", "validations", "validation_samples", "judged_by",
        },
        "index": {"continues"},
    }  # fmt: skip
    assert all(
        Experiment().role_at((section, name)).why for section, names in fixed.items() for name in names
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shown_experiment_is_a_file_that_loads_to_the_same_experiment(path: Path, tmp_path: Path) -> None:
    experiment = load_experiment(path)
    (tmp_path / "shown.toml").write_text(commented_toml(experiment), "utf-8")
    assert load_experiment(tmp_path / "shown.toml") == experiment


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_setting_of_a_shown_experiment_stands_under_its_sentence(path: Path) -> None:
    experiment = load_experiment(path)
    shown = dict(described(commented_toml(experiment)))
    assert shown == dict(sentences(experiment))


def test_values_that_toml_must_quote_come_back() -> None:
    awkward = {
        "items_columns": {"title": 'a "b" \\ c', "brand": "d.e"},
        "took": "line\nbreak",
        "folder": "[x] = # y",
    }
    experiment = load_experiment(None, {"data": awkward})
    assert load_experiment(None, tomllib.loads(commented_toml(experiment))) == experiment


def described(text: str) -> list[tuple[str, str]]:
    """(dotted name, comment above) of each setting in a commented
    TOML file; one that is not set stands in the comment."""
    table, comment, pairs = "", [], []
    for line in text.splitlines():
        if line.startswith("["):
            table = line.strip("[]") + "."
        elif line.startswith("# ") and line.endswith(" is not set"):
            pairs.append((table + line.split()[1], " ".join(comment)))
            comment = []
        elif line.startswith("# "):
            comment.append(line.removeprefix("# "))
        elif line:
            pairs.append((table + line.split(" = ")[0], " ".join(comment)))
            comment = []
    return pairs


def sentences(settings: Any, above: str = "") -> list[tuple[str, str]]:
    """(dotted name, description) of each setting, as its class declares it."""
    pairs: list[tuple[str, str]] = []
    for name, info in type(settings).model_fields.items():
        value = getattr(settings, name)
        inner = {name: value} if isinstance(value, BaseModel) else value
        if isinstance(inner, dict) and any(isinstance(one, BaseModel) for one in inner.values()):
            prefix = above if isinstance(value, BaseModel) else f"{above}{name}."
            for key, one in inner.items():
                pairs += sentences(one, f"{prefix}{key}.")
        else:
            assert info.description, f"{above}{name} has no sentence"
            pairs.append((above + name, " ".join(info.description.split())))
    return pairs
