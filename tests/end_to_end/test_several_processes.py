"""Two processes on loopback do one run together: the same samples, the same losses, the same answers as one
alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from safetensors.torch import load_file

from shelftalk.runtime.run_folder import RunFolder
from tests.end_to_end.test_interrupted import PROGRAM, validation_losses
from tests.end_to_end.tiny import call, contents, write_experiment
from tests.verified import verified

EXACT = {"training": {"precision": "fp32", "epochs": 2, "batch_tokens": 1024}, "nano": {"dropout": 0.0}}
MODELS = ["popularity", "aligned", "aligned+prior"]


def environments(number: int) -> list[dict[str, str]]:
    """What torchrun tells each of its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(number),
    }
    return [
        {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(number)}
        for rank in range(number)
    ]


def in_processes(number: int, program: str, *arguments: str | Path) -> list[subprocess.CompletedProcess[str]]:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for env in environments(number)
    ]
    outputs = [process.communicate(timeout=300) for process in started]
    return [
        subprocess.CompletedProcess(p.args, p.returncode, *output)
        for p, output in zip(started, outputs, strict=True)
    ]


@pytest.fixture(scope="module")
def alone_and_together(
    world: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunFolder, RunFolder, list[Any]]:
    folder = tmp_path_factory.mktemp("processes")
    experiment = write_experiment(folder / "tiny.toml", world, models=MODELS, **EXACT)
    alone, together = RunFolder(folder / "alone"), RunFolder(folder / "together")
    assert call("run", experiment, "--out", alone.path).exit_code == 0
    done = in_processes(2, PROGRAM, "run", experiment, "--out", together.path)
    assert [process.returncode for process in done] == [0, 0], done[0].stderr + done[1].stderr
    return verified(alone), verified(together), done


def test_the_steps_the_samples_and_the_losses_are_those_of_one_process(alone_and_together: Any) -> None:
    alone, together, _ = alone_and_together
    assert contents(alone.samples) == contents(together.samples)
    one, two = (run.needed("train").facts for run in (alone, together))
    assert [one[name] for name in ("steps", "tokens", "targets")] == [
        two[name] for name in ("steps", "tokens", "targets")
    ]
    for (key, loss), other in zip(
        validation_losses(alone).items(), validation_losses(together).values(), strict=True
    ):
        assert loss == pytest.approx(other, abs=2e-4), key
    training = [[row["loss"] for row in facts["curve"] if row["part"] == "training"] for facts in (one, two)]
    assert training[0] == pytest.approx(training[1], abs=2e-4)


def test_the_weights_are_those_of_one_process(alone_and_together: Any) -> None:
    alone, together, _ = alone_and_together
    one, two = (load_file(run.model / "model.safetensors") for run in (alone, together))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        apart = (weight - two[name]).abs().max().item()
        assert apart <= 0.02 * weight.abs().max().item(), f"{name}: {apart}"


def test_every_request_is_answered_once_and_alike(alone_and_together: Any) -> None:
    alone, together, _ = alone_and_together
    for task, model in (("retrieval", "aligned"), ("ranking", "aligned+prior"), ("retrieval", "popularity")):
        one, two = (pl.read_parquet(run.ranking(task, model)) for run in (alone, together))
        assert one["user"].to_list() == two["user"].to_list()
        first = [(a[0], b[0]) for a, b in zip(one["items"].to_list(), two["items"].to_list(), strict=True)]
        assert sum(a == b for a, b in first) >= 0.9 * len(first)
    one, two = (
        pl.read_parquet(run.ranking("rating", "aligned"))["estimate"].to_list() for run in (alone, together)
    )
    assert one == pytest.approx(two, abs=0.01)
    assert json.loads(alone.metrics.read_text()).keys() == json.loads(together.metrics.read_text()).keys()


def test_one_of_them_speaks(alone_and_together: Any) -> None:
    _, together, (first, second) = alone_and_together
    assert "Report:" in first.stdout and (together.path / "report.html").exists()
    assert second.stdout == "" and "train" not in second.stderr


def test_the_same_command_finds_all_of_it_done(alone_and_together: Any, world: Path) -> None:
    _, together, _ = alone_and_together
    before = contents(together.path)
    experiment = together.path.parent / "tiny.toml"
    done = in_processes(2, PROGRAM, "run", experiment, "--out", together.path)
    assert [process.returncode for process in done] == [0, 0], done[0].stderr + done[1].stderr
    assert "trained" not in done[0].stdout and contents(together.path) == before


def test_what_is_not_divided_is_refused(world: Path) -> None:
    done = in_processes(2, PROGRAM, "show", "experiment")
    assert [process.returncode for process in done] == [2, 2]
    assert "without the launcher" in done[0].stderr
