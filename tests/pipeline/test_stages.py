"""The stages: what decides whether a folder may be used, and how differences are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelftalk.errors import AnotherExperiment
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.pipeline import stages
from shelftalk.recipes import recipe_file
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import save_world, write_experiment

STEPS = ("prepare", "index", "write", "recommend", "evaluate", "report")
SEEDS = (Experiment(seed=0), Experiment(seed=1))


def finish(folder: RunFolder, *names: str) -> None:
    for name in names:
        folder.do(name, {}, dict)


def test_a_fresh_folder_becomes_the_experiments(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "new")
    stages.claim(folder, SEEDS[1])
    assert load_experiment(folder.experiment) == SEEDS[1]


def test_settings_bind_from_the_first_stage_that_depends_on_them(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    stages.claim(folder, SEEDS[0])
    stages.claim(folder, SEEDS[1])  # nothing is finished yet
    finish(folder, "prepare")
    stages.claim(folder, load_experiment(None, {"seed": 1, "training": {"epochs": 9}}))
    with pytest.raises(AnotherExperiment, match="seed"):
        stages.claim(folder, SEEDS[0])
    finish(folder, "train")
    with pytest.raises(AnotherExperiment, match="training.epochs"):
        stages.claim(folder, SEEDS[1])


def test_a_training_that_has_begun_binds_too(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    stages.claim(folder, SEEDS[0])
    folder.keep_checkpoints_of({})
    with pytest.raises(AnotherExperiment, match="nano.width"):
        stages.claim(folder, load_experiment(None, {"nano": {"width": 16}}))


def test_models_and_how_they_decode_may_change(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    stages.claim(folder, SEEDS[0])
    finish(folder, *stages.SETTINGS_OF)
    changes = {
        "models": ["popularity"],
        "decoding": {"beams": 5},
        "evaluation": {"resamples": 100},
        "prior": {"pool": 50},
    }
    stages.claim(folder, load_experiment(None, changes))
    assert load_experiment(folder.experiment).models == ("popularity",)


def test_every_section_binds_or_may_change() -> None:
    free = {"name", "models", "decoding", "baselines", "prior", "evaluation"}
    bound = {section for sections in stages.SETTINGS_OF.values() for section in sections}
    assert free | bound == set(Experiment.model_fields) and not free & bound


def test_a_refused_folder_names_at_most_three_differences(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    stages.claim(folder, SEEDS[0])
    finish(folder, *stages.SETTINGS_OF)
    with pytest.raises(AnotherExperiment, match=r"\(it differs in seed, data.k_core, nano.width\)"):
        stages.claim(
            folder,
            load_experiment(None, {"seed": 7, "data": {"k_core": 7}, "nano": {"width": 16, "layers": 7}}),
        )


def test_every_stage_reports_at_its_end_that_all_is_done(tmp_path: Path) -> None:
    """A bar that stays at 0 of 1 looks like a stage that never ended."""
    world = save_world(tiny_world(users=30, items=50), tmp_path / "data")
    experiment = load_experiment(
        write_experiment(tmp_path / "tiny.toml", world, models=["popularity", "bias"])
    )
    folder, last = RunFolder(tmp_path / "run"), {}
    for name in STEPS:
        getattr(stages, name)(
            folder, experiment, lambda stage, done, total, text: last.update({stage: (done, total)})
        )
    assert set(last) == {*STEPS, "certify", "recommend.popularity", "recommend.bias"} - {"recommend"}
    assert all(done == total for done, total in last.values()), last


def test_a_run_of_nothing_in_particular_is_the_best_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        stages, "run_all", lambda folder, experiment, progress: asked.append((folder, experiment))
    )
    run = stages.run_experiment()
    assert run.experiment == load_experiment(recipe_file("best"))
    assert asked == [(run.folder, run.experiment)] and run.folder.path == Path("runs/best")
