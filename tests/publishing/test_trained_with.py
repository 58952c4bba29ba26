"""A model uses the prompts it was trained with, whatever became of their files; and publishing only
reads the run."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shelftalk.errors import AnotherExperiment, ChangedFile, RunError
from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.pipeline.model_folder import read_model_facts
from shelftalk.pipeline.run import Run, open_run
from shelftalk.publishing import open_recommender
from shelftalk.publishing import publish as publishing
from shelftalk.publishing.publish import publish
from shelftalk.records import Request
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import call, contents, save_world, write_experiment

ASKED = Request("anyone", ())
TRAINED, EDITED = "After these", "Quite another prompt for"


@pytest.fixture
def copy(run: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(run.path, tmp_path / "copy")))


@pytest.fixture(params=["edited", "gone", "broken"])
def changed_templates(request: pytest.FixtureRequest, run: RunFolder) -> Iterator[None]:
    """The file of the run's own templates is not what it was."""
    file = Path(str(load_experiment(run.experiment).tasks["retrieval"].templates))
    text = file.read_text()
    if request.param == "gone":
        file.unlink()
    else:
        file.write_text(text.replace(TRAINED, EDITED) if request.param == "edited" else "[[")
    yield
    file.write_text(text)


@pytest.mark.usefixtures("changed_templates")
def test_templates_changed_after_training_change_no_answer(
    copy: RunFolder, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = open_recommender(published)
    run = Run(copy, load_experiment(copy.experiment))
    assert run.language_model.prompt("retrieval", ASKED)[0].text.startswith(TRAINED)
    again = publish(copy.path, tmp_path / "again")
    assert (again / "templates" / "retrieval.toml").read_bytes() == (
        published / "templates" / "retrieval.toml"
    ).read_bytes()
    assert open_recommender(again).recommend([ASKED], 5) == before.recommend([ASKED], 5)
    rankings = copy.ranking("retrieval", "aligned").read_bytes()
    copy.manifest("recommend.aligned").unlink()
    assert call("recommend", copy.experiment, "--out", copy.path, "--models", "aligned").exit_code == 0
    assert copy.ranking("retrieval", "aligned").read_bytes() == rankings


def test_templates_changed_between_writing_and_training_are_those_of_the_samples(tmp_path: Path) -> None:
    world = save_world(tiny_world(users=20, items=40), tmp_path / "data")
    own = tmp_path / "own.toml"
    own.write_text(f'[[template]]\nname = "own"\nsource = "{TRAINED}:\\n{{history}}"\ntarget = "{{item}}"\n')
    tasks = {"retrieval": {"templates": str(own)}}
    file = write_experiment(
        tmp_path / "tiny.toml",
        world,
        models=["aligned"],
        tasks=tasks,
        training={"max_steps": 1, "batch_tokens": 512},
    )
    run, experiment = RunFolder(tmp_path / "run"), load_experiment(file)
    stages.claim(run, experiment)
    for stage in (stages.prepare, stages.index, stages.write):
        stage(run, experiment)
    own.write_text(own.read_text().replace(TRAINED, EDITED))
    stages.train(run, experiment)
    assert [template.source for template in read_model_facts(run.model).templates["retrieval"]] == [
        f"{TRAINED}:\n{{history}}"
    ]
    assert Run(run, experiment).language_model.prompt("retrieval", ASKED)[0].text.startswith(TRAINED)


@pytest.mark.parametrize("undone", [True, False], ids=["undone", "removed"])
@pytest.mark.parametrize(
    ("old", "new", "name", "setting"),
    [
        ("max_characters = 60", "max_characters = 7", "text.max_characters", "text.max_characters"),
        ("[data]", '[data]\nitems_noun = "books"', "nouns.nouns", "data.items_noun"),
        (
            "show_ratings = true",
            "show_ratings = false",
            "tasks.rating.show_ratings",
            "tasks.rating.show_ratings",
        ),
    ],
)
def test_settings_of_prompts_that_were_edited_in_the_run_are_named(
    old: str, new: str, name: str, setting: str, undone: bool, copy: RunFolder, tmp_path: Path
) -> None:
    experiment = open_run(copy.path).experiment
    text = copy.experiment.read_text()
    assert text.count(old) == 1
    copy.experiment.write_text(text.replace(old, new))
    with pytest.raises(AnotherExperiment, match=f"other settings of its prompts .*{name}.*; set them back"):
        _ = Run(copy, load_experiment(copy.experiment)).language_model
    edited = f"was edited after the run began .*{setting}.*; undo that or remove it, .* with another --out"
    for work in (open_run, lambda path: publish(path, tmp_path / "new")):
        with pytest.raises(ChangedFile, match=edited):
            work(copy.path)
    if undone:
        copy.experiment.write_text(text)
    else:
        copy.experiment.unlink()
    assert open_recommender(publish(copy.path, tmp_path / "new")).recommend([ASKED], 3)
    assert open_run(copy.path).experiment == experiment


def test_a_model_of_an_earlier_version_with_fewer_settings_still_answers(
    copy: RunFolder,
) -> None:
    facts = json.loads((copy.model / "shelftalk.json").read_text())
    prompts = facts.pop("prompts")
    without_one = {
        **prompts,
        "text": {key: value for key, value in prompts["text"].items() if key != "max_characters"},
    }
    for fewer in ({}, {"prompts": without_one}):
        (copy.model / "shelftalk.json").write_text(json.dumps({**facts, **fewer}))
        assert Run(copy, load_experiment(copy.experiment)).language_model.recommend([ASKED], 3)


@pytest.mark.skipif(os.name == "nt", reason="modes of files are others on Windows")
def test_all_files_are_as_readable_as_others(run: RunFolder, published: Path, with_its_prior: Path) -> None:
    for folder in (run.model, published, with_its_prior):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
        assert set(modes.values()) == {modes["config.json"]}, modes
    assert "ratings.safetensors" in modes


@pytest.mark.skipif(os.name == "nt", reason="modes of files are others on Windows")
def test_a_run_that_may_only_be_read_is_published_elsewhere(copy: RunFolder, tmp_path: Path) -> None:
    paths = [copy.path, *copy.path.rglob("*")]
    before, times = contents(copy.path), {path: path.stat().st_mtime_ns for path in paths}
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        folder = publish(copy.path, tmp_path / "new")
        assert open_recommender(folder).recommend([ASKED], 3)
        assert contents(copy.path) == before and {path: path.stat().st_mtime_ns for path in paths} == times
        assert all(path.stat().st_mode & stat.S_IWUSR for path in (folder, *folder.rglob("*")))
    finally:
        for path in paths:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)


def test_a_folder_that_may_not_be_written_is_one_sentence(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    kept: Callable = publishing.beside
    monkeypatch.setattr(publishing, "beside", refused)
    with pytest.raises(RunError, match=r"cannot be written \(Permission denied\); choose another --to\.$"):
        publish(run.path, tmp_path / "new")
    monkeypatch.setattr(publishing, "beside", kept)
    assert publish(run.path, tmp_path / "other").is_dir()
