"""What is refused in a file of settings or of data: the sentence is read, the file changed as it says, and
the same call works."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import SplitSettings, split_leave_one_out
from shelftalk.errors import (
    AnotherExperiment,
    BadValue,
    ChangedFile,
    DuplicateItem,
    DuplicateName,
    MissingFile,
    NothingLeft,
    SettingsError,
    ShelftalkError,
    UnknownItem,
    UnknownPart,
    UnknownSetting,
)
from shelftalk.experiment import load_experiment
from shelftalk.runtime.progress import silent
from shelftalk.studies.ablation import study
from shelftalk.studies.ablation.grid import load_grid, read_seeds
from shelftalk.studies.planning.gpus import gpu_named
from shelftalk.studies.probing.report import probed_world
from shelftalk.studies.probing.run_probe import run_questions
from shelftalk.studies.probing.study import mixtures
from shelftalk.studies.tuning import study as search
from shelftalk.studies.tuning.space import load_space
from shelftalk.studies.tuning.study import claim
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import call, save_world, write_experiment

GRID = '[ablation]\nexperiment = "tiny.toml"\ntokens = 3000\n'
TWO = '[[variant]]\nname = "a"\n[[variant]]\nname = "b"\nnano.width = 16\n'
SPACE = "[tuning]\ntokens = 3000\n[space]\n"
RATE = "training.learning_rate = { low = 1e-4, high = 1e-2 }\n"


def told(kind: type[ShelftalkError], call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(kind) as error:
        call(*arguments)
    return str(error.value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny experiment in the working directory."""
    data = save_world(tiny_world(users=30, items=50), tmp_path / "data")
    write_experiment(tmp_path / "tiny.toml", data)
    (tmp_path / "no-data.toml").write_text("[split]\nranking_negatives = 20\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


GRIDS = [
    (GRID, SettingsError, r"add a \[\[variant\]\] with a name", GRID + TWO),
    (GRID, SettingsError, r"or a \[grid\] of lists", f"{GRID}[grid]\nnano.width = [16, 32]\n"),
    (
        GRID + "baseline = 'c'\n" + TWO,
        UnknownPart,
        'names "c", which is no variant; known are: a, b',
        GRID + "baseline = 'a'\n" + TWO,
    ),
    (
        GRID + "compare_item_knn = true\n" + TWO.replace('"b"', '"item_knn"'),
        DuplicateName,
        "give it another name",
        GRID + "compare_item_knn = true\n" + TWO,
    ),
    (GRID + TWO.replace('name = "b"\n', ""), SettingsError, 'begin it with name = "..."', GRID + TWO),
    (GRID + TWO.replace('"b"', '"a"'), DuplicateName, "give one another name", GRID + TWO),
    (
        f"{GRID}[grid]\nnano.width = 16\n",
        SettingsError,
        r"write every value to try between \[ and \]",
        f"{GRID}[grid]\nnano.width = [16, 32]\n",
    ),
    (GRID + TWO + "seed = 3\n", SettingsError, "leave it out .ablation.seeds names", GRID + TWO),
    (GRID + TWO.replace("nano.width = 16\n", ""), SettingsError, "leave one of them out", GRID + TWO),
]


@pytest.mark.parametrize(("wrong", "kind", "words", "right"), GRIDS)
def test_a_grid_corrected_as_the_sentence_says_is_read(
    folder: Path, wrong: str, kind: type[ShelftalkError], words: str, right: str
) -> None:
    grid = folder / "grid.toml"
    grid.write_text(wrong)
    assert re.search(words, told(kind, load_grid, grid))
    grid.write_text(right)
    assert len(load_grid(grid).variants) == 2


def test_a_grid_that_trains_nothing_trains_with_a_weight_above_0(folder: Path) -> None:
    off = "".join(f"tasks.{name}.weight = 0\n" for name in load_experiment("tiny.toml").tasks)
    grid = folder / "grid.toml"
    grid.write_text(GRID + TWO + off)
    assert re.search(r"give one of tasks\.\*\.weight a value above 0", told(SettingsError, load_grid, grid))
    grid.write_text(GRID + TWO + off.replace("retrieval.weight = 0", "retrieval.weight = 1"))
    load_grid(grid)


SPACES = [
    (SPACE, SettingsError, "write a setting and its range there", SPACE + RATE),
    (
        SPACE.replace("3000\n", "3000\nseeds = [3, 4]\n") + RATE,
        SettingsError,
        "holds 3, the seed of the search.*name others",
        SPACE.replace("3000\n", "3000\nseeds = [4, 5]\n") + RATE,
    ),
    (
        SPACE + "training.learning_rate = 0.1\n",
        SettingsError,
        r"write \{low = ..., high = ...\} or \{choices = \[...\]\}",
        SPACE + "training.learning_rate = { choices = [0.1, 0.2] }\n",
    ),
    (
        SPACE + "trainign.learning_rate = { low = 1, high = 2 }\n",
        UnknownSetting,
        'did you mean "training"',
        SPACE + RATE,
    ),
    (
        SPACE + "data.k_core = { low = 1, high = 2 }\n",
        SettingsError,
        "settings of .*training.* can",
        SPACE + RATE,
    ),
    (
        SPACE + "training.epochs = { low = 1, high = 2 }\n" + RATE,
        SettingsError,
        "cannot be tuned: .*; leave it out of the space",
        SPACE + RATE,
    ),
    (
        SPACE + "training.optimizer = { low = 1, high = 2 }\n" + RATE,
        SettingsError,
        "no setting|is not valid|name its choices",
        SPACE + RATE,
    ),
    (
        SPACE + "training.gradient_checkpointing = { low = 0, high = 1 }\n",
        SettingsError,
        "is no number, so it has no range; name its choices",
        SPACE + "training.gradient_checkpointing = { choices = [false, true] }\n",
    ),
    (
        SPACE + "nano.heads = { low = 1, high = 1 }\n",
        SettingsError,
        "low must be below high",
        SPACE + "nano.heads = { low = 1, high = 2 }\n",
    ),
    (
        SPACE + "nano.heads = { choices = [1, 2], low = 1 }\n",
        SettingsError,
        'has choices and "low" too; leave one of them out',
        SPACE + "nano.heads = { choices = [1, 2] }\n",
    ),
    (
        SPACE + "training.learning_rate = { low = 0.0, high = 0.1, log = true }\n",
        SettingsError,
        "is not valid|needs low above 0",
        SPACE + "training.learning_rate = { low = 0.01, high = 0.1, log = true }\n",
    ),
    (
        SPACE + "training.learning_rate = { low = 0.1, high = 0.4, step = 0.2 }\n",
        SettingsError,
        "no whole number of steps long; correct step or high",
        SPACE + "training.learning_rate = { low = 0.1, high = 0.5, step = 0.2 }\n",
    ),
    (
        SPACE + "nano.heads = { low = 1, high = 2, step = 0.5 }\n",
        SettingsError,
        "has fractions, and the setting takes whole numbers",
        SPACE + "nano.heads = { low = 1, high = 2, step = 1 }\n",
    ),
    (
        SPACE + "training.learning_rate = { low = 0.01, high = 0.1, log = true, step = 0.01 }\n",
        SettingsError,
        "takes no step",
        SPACE + "training.learning_rate = { low = 0.01, high = 0.1, log = true }\n",
    ),
    (
        SPACE + "nano.heads = { choices = [2, 2] }\n",
        SettingsError,
        "are not two or more different values",
        SPACE + "nano.heads = { choices = [1, 2] }\n",
    ),
    (
        SPACE + "nano.heads = { choices = [0, 2] }\n",
        SettingsError,
        'the space of "nano.heads": .*greater than or equal to 1.*correct it in the space file',
        SPACE + "nano.heads = { choices = [1, 2] }\n",
    ),
    (
        SPACE.replace("3000\n", "3000\nseeds = [4, 4]\n") + RATE,
        SettingsError,
        "a seed is named twice.*correct it in the space file",
        SPACE.replace("3000\n", "3000\nseeds = [4, 5]\n") + RATE,
    ),
    (
        SPACE.replace("3000\n", '3000\nmetric = "retrieval ndgc@10"\n') + RATE,
        UnknownPart,
        'did you mean "retrieval ndcg@10"',
        SPACE.replace("3000\n", '3000\nmetric = "retrieval ndcg@10"\n') + RATE,
    ),
]


@pytest.mark.parametrize(("wrong", "kind", "words", "right"), SPACES)
def test_a_space_corrected_as_the_sentence_says_is_read(
    folder: Path, wrong: str, kind: type[ShelftalkError], words: str, right: str
) -> None:
    space = folder / "space.toml"
    space.write_text(wrong)
    assert re.search(words, told(kind, load_space, Path("tiny.toml"), space))
    space.write_text(right)
    assert load_space(Path("tiny.toml"), space).parameters


def test_the_folder_of_another_search_is_left_for_one_that_works(folder: Path) -> None:
    space = folder / "space.toml"
    space.write_text(SPACE + RATE)
    claim(load_space(Path("tiny.toml"), space), folder / "out")
    space.write_text(SPACE.replace("3000", "4000") + RATE)
    other = load_space(Path("tiny.toml"), space)
    message = told(AnotherExperiment, claim, other, folder / "out")
    assert "choose another --out, or remove that folder" in message
    claim(other, folder / "another")
    (folder / "out" / "study.json").write_text("{")
    damaged = told(ChangedFile, claim, other, folder / "out")
    assert f'remove "{folder / "out"}" to begin the search anew' in damaged
    (folder / "out" / "study.json").unlink()
    (folder / "out").rmdir()
    claim(other, folder / "out")


def test_files_of_names_that_are_no_names_are_read_as_told_or_renamed(folder: Path) -> None:
    grid, space = folder / "two grids.toml", folder / "two spaces.toml"
    grid.write_text(GRID + TWO)
    space.write_text(SPACE + RATE)

    def read(path: Path) -> Any:
        return load_grid(path) if path.name.endswith("grids.toml") else load_space(Path("tiny.toml"), path)

    for path in (grid, space):
        message, text = told(SettingsError, read, path), path.read_text()
        line, table = re.findall(r'set (name = ".+") in the table (\[\w+\])', message)[0]
        path.write_text(text.replace(table, f"{table}\n{line}"))
        assert read(path).settings.name == line.split('"')[1]
        path.write_text(text)
        assert "or rename it" in message
        assert read(path.rename(path.with_name(path.name.replace(" ", "-")))).settings.name


def test_variants_that_share_the_data_and_its_split_are_compared(folder: Path) -> None:
    def check(text: str) -> None:
        (folder / "grid.toml").write_text(text)
        grid = load_grid(folder / "grid.toml", seeds=(0,))
        runs = [study.run_of(variant, 0, folder / "out") for variant in grid.variants]
        study._prepare(runs, silent)
        study._check(runs)

    message = told(SettingsError, check, GRID + TWO + "split.ranking_negatives = 10\n")
    assert "let all variants share the data and split settings" in message
    check(GRID + TWO + "[settings]\nsplit.ranking_negatives = 10\n")


def test_a_search_without_ratings_goes_by_a_metric_of_another_task(folder: Path) -> None:
    events = pl.read_parquet(folder / "data" / "interactions.parquet")
    events.drop("rating").write_parquet(folder / "data" / "interactions.parquet")

    def check(metric: str) -> None:
        (folder / "space.toml").write_text(SPACE.replace("3000\n", f'3000\nmetric = "{metric}"\n') + RATE)
        search._check(load_space(Path("tiny.toml"), folder / "space.toml"), folder / "out", silent)

    assert "name a metric of another task" in told(SettingsError, check, "rating rmse")
    check("retrieval ndcg@10")


def test_a_run_is_probed_with_more_data_or_with_questions(folder: Path) -> None:
    few = split_leave_one_out(tiny_world(users=6, items=50), SplitSettings(ranking_negatives=5), 0)
    assert "probe a run on more data" in told(NothingLeft, run_questions, few, 5, 0)
    more = split_leave_one_out(tiny_world(users=200, items=50), SplitSettings(ranking_negatives=5), 0)
    assert run_questions(more, 5, 0)
    result = call("probe", "--run", folder, "--questions", "0")
    assert result.exit_code == 2 and "or equal to 1" in result.stderr
    result = call("probe", "--run", folder / "nowhere")
    assert result.exit_code == 2 and "is no run folder" in result.stderr
    assert not (folder / "nowhere").exists()


def test_lists_of_seeds_gpus_and_probed_tasks_work_as_the_sentence_writes_them() -> None:
    message = told(SettingsError, read_seeds, "one,2")
    assert read_seeds(re.findall(r"as in (\S+)", message)[0]) == (0, 1, 2)
    message = told(SettingsError, probed_world, "0;1", None, True, silent)
    assert read_seeds(re.findall(r"--seeds (\S+)\.", message)[-1]) == (0, 1, 2)
    nearest = re.findall(r'did you mean "(.+)"', told(UnknownPart, gpu_named, "a100-80g"))[0]
    assert gpu_named(nearest).name
    nearest = re.findall(r'did you mean "(.+)"', told(UnknownPart, mixtures, ["masked_item"], False))[0]
    assert mixtures([nearest], False)


def test_an_experiment_file_that_is_not_there_or_a_folder_is_named_rightly_afterwards(folder: Path) -> None:
    assert "correct the path" in told(MissingFile, load_experiment, folder / "tyni.toml")
    assert told(MissingFile, load_experiment, folder).endswith("name the experiment file in it.")
    (folder / "run").mkdir()
    shutil.copy(folder / "tiny.toml", folder / "run" / "experiment.toml")
    message = told(MissingFile, load_experiment, folder / "run")
    assert load_experiment(re.findall(r'file in it, "(.+)"', message)[0]) == load_experiment(
        folder / "tiny.toml"
    )
    assert load_experiment(folder / "tiny.toml").name == "tiny"


def test_a_misspelt_name_of_a_model_of_its_settings_and_of_a_judge_is_corrected_as_told() -> None:
    wrong = {
        "models": (["item_kn"], lambda name: [name]),
        "baselines": ({"biass": {}}, lambda name: {name: {}}),
        "training": ({"judged_by": ["retrival"]}, lambda name: {"judged_by": [name]}),
    }
    for key, (value, corrected) in wrong.items():
        message = told(UnknownPart, load_experiment, None, {key: value})
        load_experiment(None, {key: corrected(re.findall(r'did you mean "(\w+)"', message)[0])})


@pytest.mark.parametrize(
    ("wrong", "words", "right"),
    [
        ('extends = "bst"\n', 'did you mean "best"', 'extends = "best"\n'),
        ("extends = 3\n", "a recipe's name or the path of an experiment file", 'extends = "tiny.toml"\n'),
        ('extends = "mine.toml"\n', 'remove extends = "mine.toml"', ""),
        ("seed = \n", "correct that line", "seed = 1\n"),
        ("seed = '1a'\n", '"seed" is not valid', "seed = 1\n"),
        ("[nno]\nwidth = 64\n", 'did you mean "nano"', "[nano]\nwidth = 64\n"),
        (
            "[tasks]\nretrieval = 3\n",
            "a table, written [tasks.retrieval]",
            "[tasks.retrieval]\nweight = 3\n",
        ),
        ("tasks = 3\n", "one table per task", "[tasks.retrieval]\nweight = 3\n"),
        (
            "[baselines]\nbias = 3\n",
            "a table, written [baselines.bias]",
            "[baselines.bias]\n",
        ),
        (
            "[baselines.fusion]\nweights = [[0.5, 0.6]]\n",
            "with a sum of 1; give such rows, or leave weights out",
            "[baselines.fusion]\nweights = [[0.5, 0.5]]\n",
        ),
        (
            'models = ["item_knn"]\n[baselines.fusion]\nmodels = ["item_knn", "slits"]\n',
            'did you mean "slist"',
            'models = ["item_knn"]\n[baselines.fusion]\nmodels = ["item_knn", "slist"]\n',
        ),
        ('[prior]\nmodel = "item_kn"\n', 'did you mean "item_knn"', '[prior]\nmodel = "item_knn"\n'),
        ('[teacher]\nmodel = "fusio"\n', 'did you mean "fusion"', '[teacher]\nmodel = "fusion"\n'),
        (
            '[training]\nbest_by = "ndgc@10"\nvalidation_users = 200\n',
            'did you mean "ndcg@10"',
            '[training]\nbest_by = "ndcg@10"\nvalidation_users = 200\n',
        ),
        (
            'models = ["aligned@refit"]\n',
            'name "aligned", or a baseline with @refit',
            'models = ["aligned", "item_knn@refit"]\n',
        ),
        (
            '[pretrained]\nadaptation = "lora"\n',
            'set pretrained.name, or pretrained.adaptation = "full"',
            '[pretrained]\nadaptation = "full"\n',
        ),
        (
            '[training]\nprecision = "fp16"\n[pretrained]\nname = "google/flan-t5-base"\n',
            'set training.precision = "bf16" or "fp32"',
            '[training]\nprecision = "bf16"\n[pretrained]\nname = "google/flan-t5-base"\n',
        ),
        (
            '[decoding]\nsearch = "exact"\nlength_penalty = 1.0\n',
            'set decoding.length_penalty = 0 or decoding.search = "beam"',
            '[decoding]\nsearch = "exact"\nlength_penalty = 0\n',
        ),
        (
            "[decoding]\nsoftmax_temperature = 0.5\n",
            'set decoding.softmax = "trie" or decoding.softmax_temperature = 1',
            '[decoding]\nsoftmax = "trie"\nsoftmax_temperature = 0.5\n',
        ),
        (
            '[split]\nscheme = "random"\nties = "shuffled"\n',
            "leave split.ties out",
            '[split]\nscheme = "random"\n',
        ),
        (
            "[split]\ngap_days = 3\n",
            "alone; set that scheme, or leave split.gap_days out",
            '[split]\nscheme = "global_time"\ngap_days = 3\n',
        ),
    ],
)
def test_an_experiment_file_corrected_as_the_sentence_says_is_read(
    folder: Path, wrong: str, words: str, right: str
) -> None:
    mine = folder / "mine.toml"
    mine.write_text(wrong)
    message = told(ShelftalkError, load_experiment, mine)  # type: ignore[type-abstract]
    assert words in message, message
    mine.write_text(right)
    assert load_experiment(mine)


@pytest.mark.parametrize("name", ["my shop", "...", "- -", ".hidden x"])
def test_a_file_that_cannot_name_a_run_is_given_the_name_that_is_told(folder: Path, name: str) -> None:
    mine = folder / f"{name}.toml"
    mine.write_text("seed = 1\n")
    message = told(SettingsError, load_experiment, mine)
    named = re.findall(r"set (name = \"(.+?)\") at the top", message)[0]
    mine.write_text(f"{named[0]}\nseed = 1\n")
    assert load_experiment(mine).name == named[1]
    assert load_experiment(mine.rename(folder / f"{named[1]}.toml")).name == named[1]


@pytest.mark.parametrize(
    ("wrong", "words", "right"),
    [
        (("--data", "nowhere"), "set data.folder to one that holds interactions", ("--data", "data")),
        (
            ("--interactions", "nowhere.csv", "--items", "data/items.parquet"),
            "there is no file .*; correct the path",
            ("--interactions", "data/interactions.parquet", "--items", "data/items.parquet"),
        ),
        (
            ("--interactions", "data", "--items", "data/items.parquet"),
            "is a folder; name a file, or set data.folder",
            ("--data", "data"),
        ),
    ],
)
def test_a_path_of_data_corrected_as_the_sentence_says_is_read(
    folder: Path, wrong: tuple[str, ...], words: str, right: tuple[str, ...]
) -> None:
    refused = call("prepare", "no-data.toml", "--out", "run", *wrong)
    assert refused.exit_code == 2 and re.search(words, " ".join(refused.stderr.split()))
    assert call("prepare", "no-data.toml", "--out", "run", *right).exit_code == 0


def test_two_files_of_interactions_are_told_apart_by_either_remedy(folder: Path) -> None:
    csv = folder / "data" / "interactions.csv"
    pl.read_parquet(folder / "data" / "interactions.parquet").write_csv(csv)
    refused = call("prepare", "tiny.toml", "--out", "run")
    assert refused.exit_code == 2 and "remove one, or name the files in data.interactions" in refused.stderr
    named = ("--interactions", str(csv), "--items", "data/items.parquet")
    assert call("prepare", "no-data.toml", *named, "--out", "named").exit_code == 0
    csv.unlink()
    assert call("prepare", "tiny.toml", "--out", "run").exit_code == 0


def test_a_user_who_takes_an_item_again_is_read_with_either_setting(folder: Path) -> None:
    file = folder / "data" / "interactions.parquet"
    events = pl.read_parquet(file)
    again = events.head(1).with_columns(pl.col("timestamp") + 1)
    pl.concat([events, again]).write_parquet(file)
    write_experiment(folder / "strict.toml", folder / "data", data={"repeats": "refuse", "folder": "data"})
    refused = call("prepare", "strict.toml", "--out", "run")
    assert refused.exit_code == 2
    for value in re.findall(r'data.repeats = "(\w+)" or "(\w+)"', " ".join(refused.stderr.split()))[0]:
        write_experiment(folder / "again.toml", folder / "data", data={"repeats": value, "folder": "data"})
        assert call("prepare", "again.toml", "--out", value).exit_code == 0


def test_frames_that_are_no_data_set_become_one_as_the_sentence_says() -> None:
    items = pl.DataFrame({"item_id": list("ab")})
    good = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"], "position": [1, 2]})
    wrong: list[tuple[type[ShelftalkError], str, pl.DataFrame, pl.DataFrame]] = [
        (NothingLeft, "give a file with at least one row", items, good.clear()),
        (DuplicateItem, "keep one row each", pl.concat([items, items.head(1)]), good),
        (UnknownItem, "add it to the items file, with an id alone", items.head(1), good),
        (BadValue, "keep one event each", items, good.with_columns(item_id=pl.lit("a"))),
        (BadValue, "remove them or fill it in", items, good.with_columns(user_id=pl.lit(None, pl.String))),
        (BadValue, "convert it first", items, good.with_columns(rating=pl.lit("good"))),
        (BadValue, "leave it empty where it is unknown", items, good.with_columns(rating=float("nan"))),
        (BadValue, "give all of them one, or none", items, good.with_columns(position=pl.Series([1, None]))),
    ]
    for kind, words, given, events in wrong:
        assert words in told(kind, make_dataset, given, events), words
    corrected = [
        good,
        good.with_columns(rating=pl.lit(4.0)),
        good.with_columns(rating=pl.lit(None, pl.Float64)),
        good.drop("position"),
    ]
    for events in corrected:
        assert len(make_dataset(items, events).events) == 2
