"""Trackers of a training: TensorBoard's files hold the report's curve, each step once, and one
process writes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import integration_utils

from shelftalk.errors import AnotherExperiment, SettingsError
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.models.backbone import Backbone
from shelftalk.pipeline import stages
from shelftalk.pipeline.fine_tuning import TRACKING_FOLDER
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import tiny_world
from shelftalk.training.settings import TrainingSettings, check_trackers
from shelftalk.training.trackers import by_name, own_callbacks
from shelftalk.training.trainer import TrainingResult, train
from tests.end_to_end.tiny import save_world, write_experiment
from tests.training.test_trainer import PowerCut, cut_at, lesson, new

QUALITY = {"ndcg@10": 0.25, "recall@10": 0.5}
Points = dict[str, list[tuple[int, float]]]


def trained(folder: Path, on_step: Any = lambda *_: None, **settings: Any) -> TrainingResult:
    """A training in `folder`, tracked beside its checkpoints, that is asked for its quality too. It logs
    every second step and is kept at every 17th."""
    backbone: Backbone = new(dropout=0.1)
    lessons = [lesson(backbone, start, 2 + start % 3) for start in range(48)]
    values = {
        "epochs": 5,
        "max_steps": 51,
        "batch_tokens": 128,
        "learning_rate": 0.01,
        "validations": 3,
        **settings,
    }
    chosen = TrainingSettings(precision="fp32", judged_by=("retrieval",), **values)
    parts = {"retrieval": lessons[:12], "rating": lessons[12:16]}
    positions = {"quality": lambda: QUALITY, "tracking": folder / TRACKING_FOLDER}
    return train(
        backbone, [lessons] * chosen.epochs, parts, folder / "checkpoints", chosen, 0, on_step, **positions
    )


def drawn(folder: Path) -> Points:
    """What TensorBoard would draw: tag -> (step, value)."""
    accumulator = EventAccumulator(str(folder / TRACKING_FOLDER), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


def test_tensorboard_draws_the_curve_of_the_report(tmp_path: Path) -> None:
    result = trained(tmp_path)
    expected: Points = {}
    for row in result.curve:
        name = "train/loss" if row["part"] == "training" else f"eval/{row['task']}_loss".replace("all_", "")
        expected.setdefault(name, []).append((row["step"], pytest.approx(row["loss"])))
        if row["part"] == "training":
            expected.setdefault("train/tokens", []).append((row["step"], row["tokens"]))
    for row in result.quality:
        expected.setdefault(f"eval/{row['metric']}", []).append((row["step"], pytest.approx(row["value"])))
    points_by_tag = drawn(tmp_path)
    rates, lengths = points_by_tag.pop("train/learning_rate"), points_by_tag.pop("train/grad_norm")
    assert points_by_tag == expected
    assert (
        [step for step, _ in rates]
        == [step for step, _ in lengths]
        == [step for step, _ in expected["train/loss"]]
    )
    assert max(rate for _, rate in rates) <= 0.01 * 1.0001


def test_the_training_loss_is_that_of_each_target_until_the_last_step(tmp_path: Path) -> None:
    """With a learning rate of nearly nothing every stretch of the curve is the untrained model's mean loss of
    its targets."""
    result = trained(tmp_path, learning_rate=1e-9, epochs=1, max_steps=0)
    rows = [row for row in result.curve if row["part"] == "training"]
    assert rows[-1]["step"] == result.steps and rows[-1]["tokens"] == result.tokens
    before = [
        row["loss"] for row in result.curve if row["part"] == "validation" and row["task"] == "retrieval"
    ][0]
    assert [row["loss"] for row in rows] == pytest.approx([before] * len(rows), rel=0.05)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_a_continued_training_is_drawn_as_one_that_was_never_interrupted(
    share: float, tmp_path: Path
) -> None:
    expected = trained(tmp_path / "whole")
    with pytest.raises(PowerCut):
        trained(tmp_path / "cut", cut_at(round(expected.steps * share)))
    time.sleep(1.1)  # TensorBoard's files are read in the order of their names, which tell the second
    result = trained(tmp_path / "cut")
    assert (result.curve, result.quality) == (expected.curve, expected.quality)
    points_by_tag = drawn(tmp_path / "cut")
    assert points_by_tag == drawn(tmp_path / "whole")
    assert all(len(points) == len(dict(points)) for points in points_by_tag.values()), "a step is drawn twice"


def test_without_trackers_nothing_is_written(tmp_path: Path) -> None:
    result = trained(tmp_path, trackers=())
    assert result.curve and {path.name for path in tmp_path.iterdir()} == {"checkpoints"}


def test_of_several_processes_the_first_writes(tmp_path: Path) -> None:
    args = TrainingArguments(output_dir=str(tmp_path), report_to=[])
    for first in (False, True):
        folder = tmp_path / str(first)
        (callback,) = own_callbacks(("tensorboard",), folder)
        state, control = TrainerState(is_world_process_zero=first), TrainerControl()
        callback.on_train_begin(args, state, control)
        callback.on_log(args, state, control, logs={"loss": 1.0})
        callback.on_train_end(args, state, control)
        assert folder.exists() == first


def test_a_tracker_named_is_told_the_same_curve_by_the_trainers_own_integration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[dict[str, float]] = []

    class Recorder(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **_: Any) -> None:
            logged.append({**(logs or {}), "step": state.global_step})
            assert args.run_name == tmp_path.name

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "wandb", Recorder)
    result = trained(tmp_path, trackers=("wandb",))
    losses = [(row["step"], row["loss"]) for row in result.curve if row["part"] == "training"]
    assert [(row["step"], row["loss"]) for row in logged if "loss" in row] == losses
    assert [row["eval_ndcg@10"] for row in logged if "eval_loss" in row] == [0.25] * 3
    assert not (tmp_path / TRACKING_FOLDER).exists()
    assert by_name(("wandb", "tensorboard", "mlflow", "wandb")) == ["wandb", "mlflow"]


def test_a_tracker_that_is_not_installed_is_refused_with_the_command_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelftalk.training.settings.find_spec", lambda name: None)
    experiment = load_experiment(None, {"training": {"trackers": ["mlflow"]}})
    with pytest.raises(
        SettingsError, match='names "mlflow", which is not installed; run `pip install mlflow` or'
    ):
        stages.run_all(RunFolder(tmp_path / "run"), experiment)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_bears_a_trackers_name_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "drawer").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SettingsError, match="pip install drawer"):
        check_trackers(("drawer",))  # type: ignore[arg-type]


def test_a_tracker_of_no_known_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="training.trackers"):
        load_experiment(None, {"training": {"trackers": ["tensorbord"]}})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Experiment]:
    """A tiny run up to the training."""
    folder = tmp_path_factory.mktemp("run")
    world = save_world(tiny_world(users=30, items=50), folder / "data")
    experiment = load_experiment(
        write_experiment(folder / "tiny.toml", world, training={"epochs": 1, "max_steps": 6})
    )
    run = RunFolder(folder / "run")
    stages.claim(run, experiment)
    for stage in (stages.prepare, stages.index, stages.write, stages.train):
        stage(run, experiment)
    return run, experiment


def with_trackers(experiment: Experiment, trackers: Sequence[str], **others: Any) -> Experiment:
    return experiment.model_copy(
        update={"training": experiment.training.model_copy(update={"trackers": tuple(trackers), **others})}
    )


def test_a_run_is_drawn_in_its_folder(run: tuple[RunFolder, Experiment]) -> None:
    losses = [row["loss"] for row in run[0].needed("train").facts["curve"] if row["part"] == "training"]
    assert [value for _, value in drawn(run[0].path)["train/loss"]] == pytest.approx(losses)


def test_trackers_may_change_in_a_folder_whose_training_is_done(run: tuple[RunFolder, Experiment]) -> None:
    folder, experiment = run
    stages.claim(folder, with_trackers(experiment, []))
    assert stages.train(folder, with_trackers(experiment, [])).skipped
    with pytest.raises(AnotherExperiment, match="training.patience"):
        stages.claim(folder, with_trackers(experiment, [], patience=9))
