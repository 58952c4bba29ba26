"""Whatever stops a run: the same command again ends where an uninterrupted run ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shelftalk.experiment import Experiment
from shelftalk.pipeline import stages
from shelftalk.runtime.run_folder import RunFolder
from tests.end_to_end.tiny import call, contents, write_experiment
from tests.verified import verified

PROGRAM = "import sys, torch; torch.set_num_threads(1); from shelftalk.app.cli import app; app(sys.argv[1:])"


class PowerCut(Exception):
    """What stops the training of these tests."""


def interrupt(folder: RunFolder, experiment: Experiment, stage: str, after: int) -> None:
    """Run until `stage` has reported more than `after`, and stop it there."""

    def progress(name: str, done: int, total: int, text: str) -> None:
        if name == stage and done > after:
            raise PowerCut

    with pytest.raises(PowerCut):
        stages.run_all(folder, experiment, progress)


def same_result(run: RunFolder, whole: RunFolder) -> None:
    assert json.loads(run.metrics.read_text()) == json.loads(whole.metrics.read_text())
    assert contents(run.samples) == contents(whole.samples)
    assert (run.model / "model.safetensors").read_bytes() == (whole.model / "model.safetensors").read_bytes()
    assert validation_losses(run) == validation_losses(whole)


def validation_losses(run: RunFolder) -> dict[tuple[str, int], float]:
    rows = run.needed("train").facts["curve"]
    return {(row["task"], row["step"]): row["loss"] for row in rows if row["part"] == "validation"}


def test_an_interrupted_training_continues_and_ends_as_an_uninterrupted_one(
    finished: RunFolder, tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelftalk.runtime.run_folder.KEPT_EVERY", 0.0)
    run, steps = RunFolder(tmp_path / "run"), finished.needed("train").facts["steps"]
    interrupt(run, tiny, "train", after=steps * 2 // 3)
    assert run.record("write") is not None and run.record("train") is None
    until_then = json.loads(run.training_time.read_text())
    stages.run_all(run, tiny)
    trained = run.needed("train")
    assert 0 < trained.facts["resumed_from"] < steps
    assert 0 < until_then == trained.facts["seconds_before"] < trained.seconds, (
        "the report tells of the whole training"
    )
    same_result(run, finished)
    verified(run)


def test_a_half_written_checkpoint_is_discarded(
    finished: RunFolder, tiny: Experiment, tmp_path: Path
) -> None:
    run, steps = RunFolder(tmp_path / "run"), finished.needed("train").facts["steps"]
    interrupt(run, tiny, "train", after=steps * 2 // 3)
    older, newer = sorted(
        run.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])
    )
    (newer / "trainer_state.json").write_text('{"global_step": ')
    stages.run_all(run, tiny)
    assert run.needed("train").facts["resumed_from"] == int(older.name.rpartition("-")[2])
    same_result(run, finished)


def test_a_run_interrupted_while_answering_ends_the_same(
    finished: RunFolder, tiny: Experiment, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    interrupt(run, tiny, "recommend.aligned", after=0)
    assert run.record("train") is not None and run.record("recommend.aligned") is None
    stages.run_all(run, tiny)
    same_result(run, finished)


def test_checkpoints_of_another_training_are_never_continued(
    world: Path, tiny: Experiment, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    interrupt(run, tiny, "train", after=tiny.training.batch_tokens // 64)
    run.keep_checkpoints_of({"write": "other samples"})
    assert [path.name for path in run.checkpoints.iterdir()] == ["inputs.json"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_a_run_killed_in_mid_training_continues_and_ends_as_an_uninterrupted_one(
    world: Path, tmp_path: Path
) -> None:
    longer = write_experiment(tmp_path / "tiny.toml", world, training={"epochs": 8}, models=["aligned"])
    run, whole = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "whole")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "run", str(longer), "--out", str(run.path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    wait_for_a_checkpoint(run, process)
    process.kill()  # SIGKILL: nothing is tidied up
    assert process.wait() == -signal.SIGKILL
    assert run.record("write") is not None and run.record("train") is None
    assert call("run", longer, "--out", run.path).exit_code == 0
    assert call("run", longer, "--out", whole.path).exit_code == 0
    assert 0 < run.needed("train").facts["resumed_from"] < run.needed("train").facts["steps"]
    same_result(run, whole)


def wait_for_a_checkpoint(run: RunFolder, process: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while not list(run.checkpoints.glob("checkpoint-*/trainer_state.json")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end, "no checkpoint was written within two minutes"
        time.sleep(0.01)
