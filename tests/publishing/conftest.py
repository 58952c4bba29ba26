"""One tiny finished run, published once; tests that change a folder copy it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.publishing.publish import publish
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import save_world, write_experiment
from tests.verified import verified


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run; never to be changed but by what is published in it."""
    import torch

    torch.set_num_threads(1)
    position = tmp_path_factory.mktemp("publishing")
    world = save_world(tiny_world(users=30, items=50), position / "secret-place" / "shop-data")
    templates = position / "secret-place" / "own.toml"
    templates.write_text(
        '[[template]]\nname = "own"\nsource = "After these {nouns}:\\n{history}"\ntarget = "{item}"\n'
    )
    changes = {
        "training": {"max_steps": 3, "batch_tokens": 512},
        "evaluation": {"search_error_users": 0, "held_out_templates": False},
    }
    file = write_experiment(
        position / "tiny.toml", world, tasks={"retrieval": {"templates": str(templates)}}, **changes
    )
    folder = RunFolder(position / "run")
    stages.run_all(folder, load_experiment(file))
    return verified(folder)


@pytest.fixture(scope="session")
def published(run: RunFolder) -> Path:
    """The folder alone, far from its run; never to be changed."""
    return publish(run.path, run.path.parent / "away" / "tiny-model")


@pytest.fixture(scope="session")
def with_its_prior(run: RunFolder) -> Path:
    """The folder with the prior; never to be changed."""
    return publish(run.path, run.path.parent / "away" / "with-prior", with_prior=True)


@pytest.fixture
def copied(published: Path, tmp_path: Path) -> Callable[[], Path]:
    """A copy of the published folder that a test may change."""
    return lambda: Path(shutil.copytree(published, tmp_path / "copy"))
