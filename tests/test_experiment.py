"""Experiment: complete, frozen, TOML in and out; a wrong key or value is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from shelftalk import parts
from shelftalk.errors import (
    ChangedFile,
    MissingFile,
    SettingsError,
    ShelftalkError,
    UnknownPart,
    UnknownSetting,
)
from shelftalk.experiment import Experiment, load_experiment, read_toml, save_experiment, saved_experiment
from shelftalk.recipes import recipe_file, recipe_names
from shelftalk.runtime.run_folder import RunFolder


def loaded(tmp_path: Path, text: str, **overrides: Any) -> Experiment:
    (tmp_path / "experiment.toml").write_text(text, "utf-8")
    return load_experiment(tmp_path / "experiment.toml", overrides)


def test_the_whole_experiment_survives_its_file(tmp_path: Path) -> None:
    experiment = loaded(
        tmp_path, 'seed = 5\n[tasks.rating]\nweight = 0.5\n[data.items_columns]\ntitle = "name"\n'
    )
    assert loaded(tmp_path, experiment.toml()) == experiment
    assert loaded(tmp_path, Experiment().toml()) == Experiment()


def test_every_built_in_task_has_settings_of_its_own_type() -> None:
    tasks = Experiment().tasks
    assert list(tasks) == list(parts.TASKS)
    assert all(type(tasks[name]) is parts.load(parts.TASKS, name, "task").settings_type for name in tasks)


def test_the_file_gives_the_name_where_it_does_not_set_one(tmp_path: Path) -> None:
    (tmp_path / "beauty.toml").write_text("seed = 1\n")
    assert load_experiment(tmp_path / "beauty.toml").name == "beauty"
    assert load_experiment().name == "movielens-small"


def files(folder: Path, **texts: str) -> Path:
    """Experiment files by name; the path of the first."""
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text, "utf-8")
    return folder / f"{next(iter(texts))}.toml"


def test_a_file_changes_the_recipe_that_it_extends(tmp_path: Path) -> None:
    best = load_experiment(recipe_file("best"))
    mine = load_experiment(
        files(tmp_path, mine='extends = "best"\n[nano]\nlayers = 3\n'), {"training": {"epochs": 7}}
    )
    expected = best.model_copy(
        update={
            "name": "mine",
            "nano": best.nano.model_copy(update={"layers": 3}),
            "training": best.training.model_copy(update={"epochs": 7}),
        }
    )
    assert mine == expected and mine.teacher != Experiment().teacher


def test_files_extend_each_other_from_where_they_stand_and_each_has_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    files(tmp_path / "shared", base='name = "base"\nseed = 1\n[nano]\nlayers = 3\nwidth = 64\n')
    files(tmp_path, middle='extends = "shared/base.toml"\n[nano]\nwidth = 32\n')
    mine = load_experiment(files(tmp_path, mine='extends = "middle.toml"\n[nano]\nheads = 2\n'))
    assert (mine.name, mine.seed) == ("mine", 1)
    assert (mine.nano.layers, mine.nano.width, mine.nano.heads) == (3, 32, 2)


def test_tables_without_a_file_extend_a_recipe_too() -> None:
    assert load_experiment(None, {"extends": "best", "seed": 3}) == load_experiment(
        recipe_file("best"), {"name": "movielens-small", "seed": 3}
    )


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (
            'extends = "bst"',
            UnknownPart,
            r'mine.toml" extends "bst", which is no recipe; did you mean "best"\?',
        ),
        (
            "extends = 3",
            SettingsError,
            r'"extends" is not valid: .* \(given: 3\); correct it in ".*mine.toml"',
        ),
        ('extends = "none.toml"', MissingFile, r'there is no experiment file ".*none.toml"'),
        ('extends = "mine.toml"', SettingsError, r'mine.toml" extends itself; remove extends = "mine.toml"'),
        (
            'extends = "other.toml"',
            SettingsError,
            r'"nano.layers" is not valid.*correct it in ".*other.toml"',
        ),
        (
            'extends = "there.toml"',
            SettingsError,
            r'extends itself; remove extends = "mine.toml" from ".*back',
        ),
    ],
)
def test_what_cannot_be_extended_is_named_with_its_file(
    text: str, error: type[ShelftalkError], says: str, tmp_path: Path
) -> None:
    files(tmp_path, other="[nano]\nlayers = 0\n", there='extends = "back.toml"', back='extends = "mine.toml"')
    with pytest.raises(error, match=says):
        load_experiment(files(tmp_path, mine=text + "\n"))


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_for_any_data_and_says_what_it_is_for(name: str) -> None:
    values = read_toml(recipe_file(name), "experiment")
    assert not values.keys() & {"name", "seed", "data", "split", "text"}
    assert recipe_file(name).read_text("utf-8").startswith("#")


@pytest.mark.parametrize("name", [".", "..", "...", "", "a/b", "my shop"])
def test_a_name_that_leads_to_another_folder_or_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match='the setting "name" is not valid'):
        load_experiment(None, {"name": name})
    assert load_experiment(None, {"name": ".a..b-1"}).name == ".a..b-1"


def test_overrides_are_merged_into_the_file_table_by_table(tmp_path: Path) -> None:
    experiment = loaded(tmp_path, "seed = 1\n[data]\nk_core = 3\n", seed=2, data={"folder": "there"})
    assert (experiment.seed, experiment.data.k_core, experiment.data.folder) == (2, 3, "there")


def test_training_is_needed_for_the_language_model_alone() -> None:
    assert Experiment().needs_training
    assert not Experiment(models=("item_knn", "bias")).needs_training


def test_a_model_named_twice_is_evaluated_once() -> None:
    assert Experiment(models=("item_knn", "popularity", "item_knn")).models == ("item_knn", "popularity")


def test_an_experiment_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Experiment().seed = 3  # type: ignore[misc]


def test_every_setting_has_a_sentence() -> None:
    undocumented: list[str] = []

    def look(kind: type[BaseModel], where: str) -> None:
        for name, field in kind.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                look(inner, f"{where}{name}.")
            elif '"""' not in source_after(kind, name):
                undocumented.append(where + name)

    look(Experiment, "")
    for name in parts.TASKS:
        look(parts.load(parts.TASKS, name, "task").settings_type, f"tasks.{name}.")
    assert undocumented == []


def source_after(kind: type[BaseModel], field: str) -> str:
    """The source from the field to the next one."""
    import inspect

    for base in kind.__mro__:
        if field in vars(base).get("__annotations__", {}):
            lines = inspect.getsource(base).splitlines()
            start = next(number for number, line in enumerate(lines) if line.startswith(f"    {field}:"))
            return "\n".join(lines[start : start + 6])
    raise AssertionError(f"{kind.__name__}.{field} has no source")


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("sede = 1", UnknownSetting, ('"sede"', 'did you mean "seed"?')),
        (
            "[training]\nlearning_rat = 1",
            UnknownSetting,
            ('"training.learning_rat"', 'did you mean "learning_rate"?'),
        ),
        ("[tasks.rating]\nwait = 1", UnknownSetting, ('"tasks.rating.wait"', "weight")),
        (
            "[tasks.rating]\nweight = -1",
            SettingsError,
            ('"tasks.rating.weight"', "greater than or equal to 0", "given: -1"),
        ),
        ("tasks = 1", SettingsError, ('"tasks"', "table")),
        ("[tasks]\nrating = 1", SettingsError, ("tasks.rating",)),
        ("[tasks.ratings]\n", UnknownPart, ('did you mean "rating"?',)),
        ('models = ["bais"]', UnknownPart, ('did you mean "bias"?',)),
        ("models = 3", SettingsError, ('"models"',)),
        ('[data]\ninteractions = "a.csv"', SettingsError, ('"data"', "set both or neither")),
        ("data = 1", SettingsError, ('"data"',)),
        ('[nano]\nfamily = "decoder"', SettingsError, ('"nano.family"', "decoder-only")),
        (
            "[nano]\nheads = 5",
            SettingsError,
            ("set nano.width to a multiple of 10, or nano.heads", "correct it in the experiment file."),
        ),
        ("seed = inf", SettingsError, ('"seed"',)),
        ("seed = [", SettingsError, ("not valid TOML", "correct that line")),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_it(
    text: str, kind: type[ShelftalkError], words: tuple, tmp_path: Path
) -> None:
    with pytest.raises(ShelftalkError) as caught:
        loaded(tmp_path, text)
    assert type(caught.value) is kind
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value) and str(caught.value)[-1] in ".?"


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="correct the path"):
        load_experiment(tmp_path / "none.toml")


@pytest.mark.parametrize("name", ["google/flan-t5-xl", "t5-small", "google/mt5-base", "my/FLAN-T5"])
def test_fp16_with_a_t5_is_refused_by_its_name_before_anything_is_fetched(name: str):
    with pytest.raises(SettingsError, match="overflow fp16"):
        load_experiment(None, {"pretrained": {"name": name}, "training": {"precision": "fp16"}})


def test_a_folder_and_a_name_that_only_holds_these_letters_are_no_t5_yet(tmp_path: Path):
    """What a folder holds is read from its config."""
    (tmp_path / "t5").mkdir()
    for name in (str(tmp_path / "t5"), "/models/jq1t55v8", "shop/art5-llama"):
        load_experiment(None, {"pretrained": {"name": name}, "training": {"precision": "fp16"}})


def test_an_edited_experiment_of_a_run_folder_is_never_ignored_or_overwritten(tmp_path: Path) -> None:
    """It may be run in its own folder, where nothing of the edit is lost."""
    folder, ran = RunFolder(tmp_path), load_experiment()
    save_experiment(ran, folder)
    edited = load_experiment(overrides={"decoding": {"beams": 33}})
    folder.experiment.write_text(edited.toml())
    for given in (None, ran):
        with pytest.raises(ChangedFile, match=r"was edited .*\(in decoding\.beams\); undo that or remove it"):
            saved_experiment(folder, given)
    for given in (edited, edited.model_copy(update={"models": ("popularity",)})):
        assert saved_experiment(folder, given) == ran
    folder.experiment.unlink()
    assert saved_experiment(folder) == saved_experiment(folder, edited) == ran


def test_tasks_of_the_first_epochs_need_one_that_goes_on() -> None:
    served = ("retrieval", "ranking", "rating")
    first = {name: {"first_epochs": 1} for name in served}
    auxiliary = ("masked_items", "masked_language", "pairwise_preference")
    off = {name: {"weight": 0} for name in auxiliary}
    with pytest.raises(SettingsError, match=r"set tasks\.retrieval\.first_epochs = 0"):
        load_experiment(None, {"tasks": {**first, **off}})
    load_experiment(None, {"tasks": {**first, **off, "retrieval": {"first_epochs": 0}}})  # the remedy
