"""A space is checked to its last value before anything runs, and each refusal names what to correct."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelftalk.errors import MissingFile, SettingsError, ShelftalkError, UnknownPart, UnknownSetting
from shelftalk.studies.tuning.space import Space, load_space

ROOT = Path(__file__).parents[2]
RATE = "[space]\ntraining.learning_rate = { low = 1e-3, high = 1e-2, log = true }\n"


def space_of(folder: Path, text: str, base: str = "", trials: int | None = None) -> Space:
    (folder / "base.toml").write_text(base)
    (folder / "toy.toml").write_text(text)
    return load_space(folder / "base.toml", folder / "toy.toml", trials)


def test_a_range_is_of_whole_numbers_where_the_setting_is(tmp_path: Path) -> None:
    text = (
        RATE + '"tasks.retrieval.max_history" = { low = 10, high = 40, step = 10 }\n'
        "tasks.ranking.weight = { low = 0, high = 1 }\n"
    )
    space = space_of(tmp_path, text + "[space.nano]\nlayers.choices = [2, 4]\n")
    assert {parameter.name: (parameter.described(), parameter.whole) for parameter in space.parameters} == {
        "training.learning_rate": ("0.001 to 0.01, log", False),
        "tasks.retrieval.max_history": ("10 to 40, step 10", True),
        "tasks.ranking.weight": ("0 to 1", False),
        "nano.layers": ("2 or 4", False),
    }
    assert (space.settings.name, space.settings.task, space.settings.lower_is_better) == (
        "toy",
        "retrieval",
        False,
    )
    assert space.settings.seeds == (1, 2, 3) and space_of(tmp_path, RATE, "seed = 2\n").settings.seeds == (
        3,
        4,
        5,
    )


def test_an_experiment_is_the_base_with_the_values_laid_over_it(tmp_path: Path) -> None:
    space = space_of(tmp_path, RATE, "seed = 9\nnano.width = 64\n")
    changed = space.experiment({"training.learning_rate": 0.005})
    assert (changed.seed, changed.nano.width, changed.training.learning_rate) == (9, 64, 0.005)
    assert space.experiment({}) == space.base


def test_the_number_of_trials_of_the_command_line_wins(tmp_path: Path) -> None:
    assert space_of(tmp_path, "[tuning]\ntrials = 7\n" + RATE, trials=3).settings.trials == 3


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", SettingsError, "has no [space]"),
        ("[tuning]\ntrial = 5\n" + RATE, UnknownSetting, 'did you mean "trials"'),
        ("[tunings]\n" + RATE, UnknownSetting, 'did you mean "tuning"'),
        ('[tuning]\nmetric = "retrieval ndgc@10"\n' + RATE, UnknownPart, 'did you mean "retrieval ndcg@10"'),
        ('[tuning]\nmetric = "masked_items ndcg@10"\n' + RATE, UnknownPart, "no served task has"),
        ("[tuning]\nseeds = [1, 1]\n" + RATE, SettingsError, "named twice"),
        ("[tuning]\nseeds = [0, 1]\n" + RATE, SettingsError, "the seed of the search"),
        ('[tuning]\npart = "test"\n' + RATE, UnknownSetting, '"tuning.part"'),
        ("[space]\ntraining.learning_rat.choices = [1, 2]\n", UnknownSetting, 'did you mean "learning_rate"'),
        ("[space]\ntrainig.learning_rate.choices = [1, 2]\n", UnknownSetting, 'did you mean "training"'),
        (
            "[space]\ntasks.masked_item.weight.choices = [0, 1]\n",
            UnknownPart,
            'the space of "tasks.masked_item.weight"',
        ),
        ("[space]\ntasks.masked_items.weigth.choices = [0, 1]\n", UnknownSetting, 'did you mean "weight"'),
        (
            "[space]\ntasks.masked_items.share = { low = 0.5, high = 1.0 }\n",
            SettingsError,
            '"tasks.masked_items.share" is not valid',
        ),
        (
            "[space]\ntraining.learning_rate = { low = 0.0, high = 1e-2 }\n",
            SettingsError,
            'the space of "training.learning_rate"',
        ),
        ("[space]\nnano.heads.choices = [4, 5]\n", SettingsError, 'the space of "nano.heads"'),
        ("[space]\ntraining.learning_rate = 1e-3\n", SettingsError, "is no table"),
        ("[space]\ntraining.learning_rate.low = 1e-3\n", SettingsError, "space.training.learning_rate.high"),
        (
            "[space]\ntraining.learning_rate = { low = 1e-3, high = 1, lg = true }\n",
            UnknownSetting,
            'did you mean "log"',
        ),
        ("[space]\ntraining.learning_rate = { low = 1e-2, high = 1e-3 }\n", SettingsError, "is empty"),
        (
            "[space]\ntraining.warmup = { low = 0.0, high = 0.1, log = true }\n",
            SettingsError,
            "needs low above 0",
        ),
        (
            "[space]\ntraining.warmup = { low = 0.0, high = 0.1, step = 0.03 }\n",
            SettingsError,
            "no whole number of steps",
        ),
        (
            "[space]\ntraining.batch_tokens = { low = 100, high = 200, step = 0.5 }\n",
            SettingsError,
            "fractions",
        ),
        ("[space]\ntraining.precision = { low = 1, high = 2 }\n", SettingsError, "training.precision"),
        ("[space]\ntraining.gradient_checkpointing = { low = 0, high = 1 }\n", SettingsError, "is no number"),
        ("[space]\ntraining.warmup.choices = [0.1]\n", SettingsError, "two or more different"),
        (
            "[space]\ntraining.warmup = { choices = [0.1, 0.2], low = 0 }\n",
            SettingsError,
            'choices and "low" too',
        ),
        ("[space]\ndata.k_core.choices = [1, 5]\n", SettingsError, "trials share data"),
        ("[space]\nseed.choices = [1, 5]\n", SettingsError, "trials share data"),
        ("[space]\ntraining.epochs.choices = [1, 5]\n", SettingsError, "tuning.tokens replaces it"),
        ("[space]\nnano.vocabulary.choices = [500, 900]\n", SettingsError, "tuning.prune = false"),
        ("[space]\ntasks.retrieval.targets.choices = [0, 1]\n", SettingsError, "tuning.prune = false"),
        ('[space]\nindex.scheme.choices = ["atomic", "semantic"]\n', SettingsError, "tuning.prune = false"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_the_remedy(
    tmp_path: Path, text: str, kind: type[ShelftalkError], message: str
) -> None:
    with pytest.raises(kind) as refused:
        space_of(tmp_path, text)
    assert message in str(refused.value)


def test_settings_that_change_the_loss_may_be_searched_without_pruning(tmp_path: Path) -> None:
    text = (
        '[tuning]\nprune = false\n[space]\nindex.scheme.choices = ["atomic", "semantic"]\n'
        'text.fields.choices = [[], ["title"]]\n'
    )
    space = space_of(tmp_path, text)
    assert space.experiment({"index.scheme": "semantic", "text.fields": []}).text.fields == ()
    assert [parameter.described() for parameter in space.parameters] == [
        "atomic or semantic",
        '[] or ["title"]',
    ]


def test_a_fault_of_the_experiment_is_reported_as_that(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^the setting .*; correct it in the experiment file\.$"):
        space_of(tmp_path, RATE, "nano.heads = 5\n")
    with pytest.raises(MissingFile, match="none.toml"):
        load_space(tmp_path / "base.toml", tmp_path / "none.toml")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments/tuning").glob("*.toml")), ids=lambda path: path.stem
)
def test_every_space_that_comes_along_loads_and_says_what_it_is_for(path: Path) -> None:
    space = load_space(ROOT / "experiments/movielens-small.toml", path)
    assert space.parameters and path.read_text("utf-8").startswith("#")
    assert f"experiments/tuning/{path.name}" in path.read_text("utf-8"), "the command that runs it"


def test_a_space_file_of_a_name_that_no_folder_can_have_says_so_and_the_remedy_works(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("")
    space = tmp_path / "two words.toml"
    space.write_text(RATE)
    with pytest.raises(
        SettingsError, match='"two words.toml", cannot be taken for it .* set name = "two-words" in the table'
    ):
        load_space(tmp_path / "base.toml", space)
    space.write_text('[tuning]\nname = "two-words"\n' + RATE)
    assert load_space(tmp_path / "base.toml", space).settings.name == "two-words"
