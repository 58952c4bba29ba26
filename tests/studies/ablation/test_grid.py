"""A grid file is checked to the last variant before anything runs, and each refusal names what to correct."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelftalk.errors import (
    DuplicateName,
    MissingFile,
    SettingsError,
    ShelftalkError,
    UnknownPart,
    UnknownSetting,
)
from shelftalk.experiment import Experiment
from shelftalk.studies.ablation.grid import Grid, load_grid, read_seeds
from shelftalk.studies.token_budget.run import relevant_settings

ROOT = Path(__file__).parents[3]


def grid_of(folder: Path, text: str) -> Grid:
    (folder / "toy.toml").write_text(text)
    return load_grid(folder / "toy.toml")


TWO = """
[[variant]]
name = "all on"
[[variant]]
name = "none"
tasks.masked_items.weight = 0
"""


def test_variants_are_the_base_experiment_with_their_settings_laid_over_it(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('name = "base"\nseed = 9\n[nano]\nwidth = 64\n')
    grid = grid_of(tmp_path, '[ablation]\nexperiment = "base.toml"\n[settings]\nnano.layers = 2\n' + TWO)
    first, second = (variant.experiment for variant in grid.variants)
    assert (first.seed, first.nano.width, first.nano.layers) == (9, 64, 2)
    assert first.tasks["masked_items"].weight > second.tasks["masked_items"].weight == 0
    assert second == first.model_copy(update={"tasks": second.tasks})
    assert (grid.settings.name, grid.baseline.name, [v.name for v in grid.others]) == (
        "toy",
        "all on",
        ["none"],
    )


def test_lists_of_values_are_crossed_and_named_after_them(tmp_path: Path) -> None:
    grid = grid_of(
        tmp_path,
        '[[variant]]\nname = "plain"\nnano.layers = 1\n'
        '[grid]\n"tasks.masked_items.weight" = [0, 0.5]\n[grid.text]\nfields = [[], ["title", "brand"]]\n',
    )
    assert [variant.name for variant in grid.variants] == [
        "plain",
        "tasks.masked_items.weight=0, text.fields=none",
        "tasks.masked_items.weight=0, text.fields=title+brand",
        "tasks.masked_items.weight=0.5, text.fields=none",
        "tasks.masked_items.weight=0.5, text.fields=title+brand",
    ]
    last = grid.variants[-1].experiment
    assert (last.tasks["masked_items"].weight, last.text.fields) == (0.5, ("title", "brand"))
    assert len({variant.folder for variant in grid.variants}) == 5


def test_what_is_given_on_the_command_line_wins(tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text("[ablation]\nseeds = [7]\n" + TWO)
    grid = load_grid(tmp_path / "toy.toml", read_seeds("4, 5"), tmp_path)
    assert grid.settings.seeds == (4, 5)
    assert {variant.experiment.data.folder for variant in grid.variants} == {str(tmp_path)}


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", SettingsError, "has no variants"),
        ("[ablation]\ntoken = 5\n" + TWO, UnknownSetting, 'did you mean "tokens"'),
        ("[ablations]\n" + TWO, UnknownSetting, 'did you mean "ablation"'),
        ("[ablation]\ntokens = 0\n" + TWO, SettingsError, "ablation.tokens"),
        ("[ablation]\nseeds = [1, 1]\n" + TWO, SettingsError, "named twice"),
        ('[ablation]\npart = "train"\n' + TWO, SettingsError, "ablation.part"),
        ('[ablation]\nbaseline = "al on"\n' + TWO, UnknownPart, 'did you mean "all on"'),
        ('[ablation]\nexperiment = "none.toml"\n' + TWO, MissingFile, "none.toml"),
        (
            TWO + '[[variant]]\nname = "x"\nnano.widht = 3\n',
            UnknownSetting,
            'variant "x": there is no setting "nano.widht"; did you',
        ),
        (TWO + '[[variant]]\nname = "x"\ntasks.masked_item.weight = 0\n', UnknownPart, 'variant "x"'),
        (TWO + '[[variant]]\nname = "x"\nnano.width = 7\n', SettingsError, 'variant "x"'),
        (TWO + '[[variant]]\nname = "x"\nseed = 3\n', SettingsError, "ablation.seeds"),
        (TWO + "[[variant]]\nnano.width = 64\n", SettingsError, "variant 3 has no name"),
        (
            TWO + '[[variant]]\nname = "again"\n',
            SettingsError,
            'the variants "all on" and "again" are the same experiment',
        ),
        (TWO + '[[variant]]\nname = "all  on"\nnano.width = 64\n', DuplicateName, "one folder"),
        (TWO + '[[variant]]\nname = "none"\nnano.width = 64\n', DuplicateName, "one folder"),
        (TWO + "[grid]\nnano.width = 64\n", SettingsError, "grid.nano.width is not a list"),
        ('[ablation]\ncompare_item_knn = true\n[[variant]]\nname = "item_knn"\n', DuplicateName, "item_knn"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_remedy(
    tmp_path: Path, text: str, kind: type[ShelftalkError], message: str
) -> None:
    with pytest.raises(kind) as refused:
        grid_of(tmp_path, text)
    assert message in str(refused.value)


@pytest.mark.parametrize("fault", ["nano.heads = 5", "tasks.rating.weight = -1"])
def test_a_wrong_setting_names_the_file_that_holds_it(tmp_path: Path, fault: str) -> None:
    (tmp_path / "base.toml").write_text('name = "base"\n')
    base = '[ablation]\nexperiment = "base.toml"\n'
    with pytest.raises(
        SettingsError, match='^variant "wrong": .*; correct it in the grid file ".*toy.toml".$'
    ):
        grid_of(tmp_path, f'{base}[[variant]]\nname = "wrong"\n{fault}\n')
    (tmp_path / "base.toml").write_text(fault)
    with pytest.raises(SettingsError, match=r"^the setting .*; correct it in the experiment file\.$"):
        grid_of(tmp_path, base + TWO)
    with pytest.raises(SettingsError, match='"ablation.tokens" .*; correct it in the grid file'):
        grid_of(tmp_path, "[ablation]\ntokens = 0\n" + TWO)


def test_a_variant_that_trains_nothing_is_refused(tmp_path: Path) -> None:
    off = "".join(
        f"tasks.{task}.weight = 0\n" for task, given in Experiment().tasks.items() if given.weight > 0
    )
    with pytest.raises(SettingsError, match='variant "nothing" switches every task off'):
        grid_of(tmp_path, f'[[variant]]\nname = "nothing"\n{off}')


def test_settings_of_a_task_that_is_off_make_no_other_variant(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="the same experiment"):
        grid_of(
            tmp_path,
            TWO
            + '[[variant]]\nname = "x"\ntasks.masked_items.weight = 0\ntasks.masked_items.max_history = 3\n',
        )


def test_settings_of_a_model_that_is_not_trained_make_no_other_variant(tmp_path: Path) -> None:
    unread = [
        'pretrained.name = "gpt2"\n[[variant]]\nname = "b"\npretrained.name = "gpt2"\nnano.width = 64\n',
        'nano.layers = 2\n[[variant]]\nname = "b"\nnano.layers = 2\npretrained.random_weights = true\n',
    ]
    for rest in unread:
        with pytest.raises(SettingsError, match='the variants "a" and "b" are the same experiment'):
            grid_of(tmp_path, f'[[variant]]\nname = "a"\n{rest}')
    assert relevant_settings(Experiment(nano={"width": 64})) != relevant_settings(Experiment())
    gpt2 = Experiment(pretrained={"name": "gpt2"})
    assert (
        relevant_settings(gpt2)
        != relevant_settings(Experiment(pretrained={"name": "gpt2", "random_weights": True}))
        != relevant_settings(Experiment())
    )


def test_the_length_of_training_is_the_budgets_and_makes_no_variant() -> None:
    longer = Experiment(training={"epochs": 9, "patience": 7, "max_steps": 4})
    assert relevant_settings(longer) == relevant_settings(Experiment())
    assert relevant_settings(Experiment(training={"learning_rate": 0.1})) != relevant_settings(Experiment())


def test_seeds_that_are_no_numbers_are_refused() -> None:
    assert read_seeds("3") == (3,)
    with pytest.raises(SettingsError, match="--seeds"):
        read_seeds("0,one")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments/ablations").glob("*.toml")), ids=lambda path: path.stem
)
def test_every_bundled_grid_loads_and_says_what_it_is_for(path: Path) -> None:
    grid = load_grid(path)
    assert grid.variants and path.read_text("utf-8").startswith("#")
    assert f"experiments/ablations/{path.name}" in path.read_text("utf-8"), "the command that runs it"


def test_a_grid_file_of_a_name_that_no_folder_can_have_says_so_and_the_remedy_works(tmp_path: Path) -> None:
    (tmp_path / "two words.toml").write_text(TWO)
    with pytest.raises(
        SettingsError, match='"two words.toml", cannot be taken for it .* set name = "two-words" in the table'
    ):
        load_grid(tmp_path / "two words.toml")
    (tmp_path / "two words.toml").write_text('[ablation]\nname = "two-words"\n' + TWO)
    assert load_grid(tmp_path / "two words.toml").settings.name == "two-words"
