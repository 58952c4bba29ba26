"""What commands on a run refuse: the sentence is read, the command given as it says, and it succeeds."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from typer.testing import Result

from shelftalk.certificate.against import check_same_test_part, compare_runs
from shelftalk.certificate.record import read_certificate
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.errors import ShelftalkError
from shelftalk.experiment import saved_experiment
from shelftalk.pipeline.imported_answers import import_scores
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder, read_signed, write_signed
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import call, command_in, save_world, write_experiment

BASELINES = ("--models", "popularity,bias")


@pytest.fixture(scope="module")
def small(world: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of baselines in a folder whose name has a space; never to be changed."""
    position = tmp_path_factory.mktemp("remedies")
    experiment = write_experiment(position / "small.toml", world)
    assert call("run", experiment, "--out", position / "my run", *BASELINES).exit_code == 0
    return RunFolder(position / "my run")


@pytest.fixture
def copied(small: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(small.path, tmp_path / "a copy")))


@pytest.fixture
def scores(small: RunFolder, tmp_path: Path) -> Path:
    """Two items of each test list, of another system."""
    split = Split.load(small.dataset)
    rows = [
        (request.user, item, 1.0 - number)
        for request in split.retrieval_requests("test")[0]
        for number, item in enumerate(
            [one for one in split.dataset.item_ids if one not in request.history][:2]
        )
    ]
    path = tmp_path / "theirs.csv"
    pl.DataFrame(rows, schema=["user", "item", "score"], orient="row").write_csv(path)
    return path


def told(*arguments: str | Path) -> str:
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    return " ".join(re.sub("[│╭╮╰╯─]", " ", result.stderr).split())


def done(*arguments: str | Path) -> Result:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result


# --- scores of another system ----------------------------------------------------------------------------


def test_options_of_scores_go_together_as_the_sentences_say(
    copied: RunFolder, scores: Path, tmp_path: Path, world: Path
) -> None:
    given = ("--scores", scores, "--name", "theirs")
    assert "give both, or neither" in told("evaluate", copied.path, "--scores", scores)
    experiment = write_experiment(tmp_path / "small.toml", world)
    assert "name it first: shelftalk evaluate RUN" in told("evaluate", experiment, *given)
    message = told("evaluate", copied.path, *given, "--out", tmp_path / "other", "--seed", "3")
    named = re.findall(r"--[a-z]+", message.partition("leave ")[2])
    assert {"--out", "--seed"} <= set(named)
    assert "choose another --name" in told(
        "evaluate", copied.path, "--scores", scores, "--name", "popularity"
    )
    assert "use letters, digits" in told(
        "evaluate", copied.path, "--scores", scores, "--name", "their scores"
    )
    message = told("evaluate", copied.path, *given, "--task", "retreival")
    task = re.findall(r'did you mean "(\w+)"', message)[0]
    message = told("evaluate", copied.path, "--remove-scores", "theirs")
    assert "none were imported; leave --remove-scores out" in message
    done("evaluate", copied.path, *given, "--task", task)
    message = told("evaluate", copied.path, "--remove-scores", "thiers")
    done("evaluate", copied.path, "--remove-scores", re.findall(r'did you mean "(\w+)"', message)[0])
    assert not copied.imported_models()
    done("evaluate", copied.path)


def test_imported_scores_that_were_changed_are_removed_and_imported_again(
    copied: RunFolder, scores: Path, world: Path
) -> None:
    given = ("--scores", scores, "--name", "theirs")
    done("evaluate", copied.path, *given)
    before = json.loads(copied.metrics.read_text())
    path = copied.ranking("retrieval", "theirs")
    pl.read_parquet(path).reverse().write_parquet(path)
    message = told("evaluate", copied.path, *given)
    assert "import them again" in message
    assert command_in(told("evaluate", copied.experiment, "--out", copied.path)) == command_in(message)
    done(*command_in(message))
    assert not copied.imported_models()
    done("evaluate", copied.path, *given)
    assert json.loads(copied.metrics.read_text()) == before


def test_imported_scores_of_another_split_are_removed_and_imported_again(
    scores: Path, tmp_path: Path, world: Path
) -> None:
    data = Path(shutil.copytree(world, tmp_path / "data"))
    experiment = write_experiment(tmp_path / "small.toml", data, models=["popularity"])
    run = RunFolder(tmp_path / "run")
    done("run", experiment, "--out", run.path)
    done("evaluate", run.path, "--scores", scores, "--name", "theirs")
    events = pl.read_parquet(data / "interactions.parquet")
    events.filter(pl.col("user_id") != events["user_id"][0]).write_parquet(data / "interactions.parquet")
    message = told("run", experiment, "--out", run.path)
    assert "answer another split of the data" in message
    done(*command_in(message))
    message = told("evaluate", run.path, "--scores", scores, "--name", "theirs")
    user = re.findall(r'user "(.+?)" is not evaluated .+; leave their rows out', message)[0]
    frame = pl.read_csv(scores, schema_overrides={"user": pl.String})
    frame.filter(pl.col("user") != user).write_csv(scores)
    done("evaluate", run.path, "--scores", scores, "--name", "theirs")
    done("run", experiment, "--out", run.path)


def test_a_run_without_ratings_takes_scores_of_the_tasks_that_are_named(tmp_path: Path) -> None:
    folder = save_world(tiny_world(users=30, items=50), tmp_path / "data")
    events = pl.read_parquet(folder / "interactions.parquet").drop("rating")
    events.write_parquet(folder / "interactions.parquet")
    experiment = write_experiment(tmp_path / "small.toml", folder, models=["popularity"])
    run = RunFolder(tmp_path / "run")
    done("prepare", experiment, "--out", run.path)
    requests = Split.load(run.dataset).ranking_requests("test")[0]
    rows = [(one.user, item, 1.0) for one in requests for item in one.candidates]
    scores = tmp_path / "theirs.csv"
    pl.DataFrame(rows, schema=["user", "item", "score"], orient="row").write_csv(scores)
    message = told("evaluate", run.path, "--scores", scores, "--name", "theirs", "--task", "rating")
    for task in re.findall(r"give scores for --task (\w+) or (\w+)", message)[0]:
        import_scores(run, saved_experiment(run), scores, "theirs", task)
    message = told("show", "sample", "rating", experiment)
    assert "choose another task" in message
    done("show", "sample", "retrieval", experiment)


# --- a run folder in place of an experiment ---------------------------------------------------------------


@pytest.mark.parametrize("stage", ["run", "prepare", "index", "recommend", "report"])
def test_a_run_folder_is_gone_on_with_by_the_command_that_is_told(
    copied: RunFolder, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stages = json.loads(done("run", copied.experiment, "--out", copied.path, "--json").stdout)["stages"]
    assert all(one["skipped"] for one in stages)
    before = sorted(path.name for path in tmp_path.iterdir())
    done(*command_in(told(stage, copied.path)))
    assert sorted(path.name for path in tmp_path.iterdir()) == before  # and no folder runs/
    if stage == "prepare":
        done(*command_in(told(stage, copied.path, "--out", tmp_path / "another one")))
        assert RunFolder(tmp_path / "another one").manifest("prepare").is_file()


# --- what a run holds ------------------------------------------------------------------------------------


def test_a_certificate_that_was_edited_or_is_gone_is_written_anew_by_the_command(copied: RunFolder) -> None:
    before = copied.certificate.read_bytes()
    content = json.loads(before)
    for damage in (
        lambda: copied.certificate.write_text(json.dumps({**content, "seed": 99})),
        lambda: copied.certificate.write_text(before.decode().replace('"format"', '"formal"')),
        copied.certificate.unlink,
    ):
        damage()
        with pytest.raises(ShelftalkError) as error:
            read_certificate(copied)
        message = str(error.value)
        copied.certificate.unlink(missing_ok=True)
        done(*command_in(message))
        assert copied.certificate.read_bytes() == before and read_certificate(copied)


def test_the_probes_of_a_run_of_an_earlier_version_come_from_its_experiment_file(copied: RunFolder) -> None:
    manifest = copied.manifest("prepare")
    values = read_signed(manifest)
    del values["facts"]["probes"]
    write_signed(manifest, values)
    assert "name its experiment file instead of its folder" in told("show", "data", copied.path)
    shown = json.loads(done("show", "data", copied.experiment, "--json").stdout)
    assert len(shown) > 1


def test_samples_are_shown_by_a_number_that_is_named(small: RunFolder) -> None:
    message = told("show", "sample", "retrieval", small.experiment, "--number", "100000")
    last = re.findall(r"samples 0 to (\d+)", message)[0]
    done("show", "sample", "retrieval", small.experiment, "--number", last)


def test_runs_are_compared_in_the_models_that_the_sentences_name(
    small: RunFolder, tmp_path: Path, world: Path
) -> None:
    experiment = write_experiment(tmp_path / "other.toml", world, models=["global_mean"])
    done("run", experiment, "--out", tmp_path / "other")

    def refusal(*models: str) -> str:
        with pytest.raises(ShelftalkError) as error:
            compare_runs(small, RunFolder(tmp_path / "other"), models)
        return str(error.value)

    pair = re.findall(r"--models (\S+)\.", refusal())[0]
    assert "give A:NAME,B:NAME" in refusal("A:popularity")
    assert "no task in common; choose others" in refusal("A:popularity", "B:global_mean")
    nearest = re.findall(r'did you mean "(\w+)"', refusal("A:biass", "B:global_mean"))[0]
    chosen = pair.replace("A:NAME", f"A:{nearest}").replace("B:NAME", "B:global_mean").split(",")
    assert compare_runs(small, RunFolder(tmp_path / "other"), chosen).rows
    moved = split_leave_one_out(tiny_world(users=30, items=50), SplitSettings(ranking_negatives=10), seed=9)
    here = Split.load(small.dataset)
    with pytest.raises(ShelftalkError, match="compare runs of the same data, split settings and seed"):
        check_same_test_part(here, moved, "A", "B")
    check_same_test_part(here, Split.load(RunFolder(tmp_path / "other").dataset), "A", "B")


def test_files_and_folders_of_others_are_left_for_another_out(
    small: RunFolder, tmp_path: Path, world: Path
) -> None:
    experiment = write_experiment(tmp_path / "small.toml", world, models=["popularity"])
    (tmp_path / "file").write_text("mine")
    (tmp_path / "strangers").mkdir()
    (tmp_path / "strangers" / "thesis.tex").write_text("mine")
    for out, words in (("file", "is a file"), ("strangers", "is not empty"), ("taken", "another experiment")):
        if out == "taken":
            done("prepare", write_experiment(tmp_path / "b.toml", world, seed=8), "--out", tmp_path / out)
        message = told("prepare", experiment, "--out", tmp_path / out)
        assert words in message and "choose another --out" in message
    done("prepare", experiment, "--out", tmp_path / "another")
    shutil.rmtree(tmp_path / "taken")
    done("prepare", experiment, "--out", tmp_path / "taken")


def test_the_remedy_of_every_stage_that_is_missing_leads_on(tmp_path: Path, world: Path) -> None:
    experiment = write_experiment(tmp_path / "small.toml", world, models=["popularity"])
    given = (experiment, "--out", tmp_path / "run")
    asked, sentences = "report", []
    for _ in range(12):
        result = call(asked, *given)
        if result.exit_code == 0 and asked == "report":
            break
        asked = (
            "report"
            if result.exit_code == 0
            else re.findall(r"run `shelftalk (\w+)` first", result.stderr)[0]
        )
        sentences.append(asked)
    else:
        pytest.fail(f"the remedies lead nowhere: {sentences}")
    assert Run(RunFolder(tmp_path / "run"), saved_experiment(RunFolder(tmp_path / "run"))).split
