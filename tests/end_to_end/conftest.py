"""A tiny world, a tiny experiment, and one finished run that tests copy from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shelftalk.experiment import Experiment, load_experiment
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import call, save_world, write_experiment
from tests.verified import verified


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_world(tiny_world(users=30, items=50), tmp_path_factory.mktemp("world") / "data")


@pytest.fixture(scope="session")
def experiment_file(world: Path) -> Path:
    return write_experiment(world.parent / "tiny.toml", world)


@pytest.fixture(scope="session")
def tiny(experiment_file: Path) -> Experiment:
    return load_experiment(experiment_file)


@pytest.fixture(scope="session")
def finished(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """An uninterrupted run; never to be changed."""
    import torch

    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "whole"
    result = call("run", experiment_file, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    return verified(RunFolder(out))


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[RunFolder], RunFolder]:
    """A copy of a run folder that a test may change."""

    def copied(run: RunFolder) -> RunFolder:
        shutil.copytree(run.path, tmp_path / "copy")
        return RunFolder(tmp_path / "copy")

    return copied
