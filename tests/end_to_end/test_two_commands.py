"""Two commands on one folder, as real processes: one works, the other says who does; killed at any moment,
the next goes on."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.tiny import call, write_experiment
from tests.runtime.test_locks import HOLD

COMMAND = [sys.executable, "-m", "shelftalk"]
REFUSED = re.compile(
    r'InUse: the folder ".*" is in use by process \d+ on ".*", since .*; '
    r"wait until .* or choose another --out\."
)


@pytest.fixture(scope="module")
def baselines(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experiment(
        tmp_path_factory.mktemp("two") / "tiny.toml", world, models=["popularity", "item_knn"]
    )


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        text=True,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def test_of_two_runs_started_at_once_one_is_done_and_the_other_is_refused(
    baselines: Path, tmp_path: Path
) -> None:
    both = [started("run", baselines, "--out", tmp_path / "run") for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) in ([0, 2], [0, 0]), errors  # the second may begin when the first has ended
    if 2 in codes:
        assert REFUSED.search(errors[codes.index(2)]), errors
    assert not list((tmp_path / "run").rglob(".*"))
    alone = call("run", baselines, "--out", tmp_path / "alone", "--json")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == json.loads(alone.stdout)["metrics"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_a_run_killed_at_any_moment_is_continued_by_the_same_command(baselines: Path, tmp_path: Path) -> None:
    """Wherever the kill falls, between a folder's making and
    its first file too, the next command is not kept out."""
    chance, run = random.Random(7), tmp_path / "run"
    for _ in range(4):
        process = started("run", baselines, "--out", run)
        end = time.monotonic() + 60
        while not (run / ".lock").exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(chance.choice([0.0, 0.01, 0.1, 0.4]))
        process.kill()
        process.wait()
    result = call("run", baselines, "--out", run)
    assert result.exit_code == 0, result.output
    assert not list(run.rglob(".*")), "what the killed ones left half written is gone"


@pytest.mark.parametrize(
    "left", [".experiment.toml.0a1b2c3d.part", ".lock", "stages", ".dataset.0a1b2c3d.part/items.parquet"]
)
def test_what_a_kill_left_before_the_first_file_does_not_make_the_folder_a_strangers(
    left: str, baselines: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run" / left
    path.parent.mkdir(parents=True)
    path.mkdir() if left == "stages" else path.write_text("")
    assert call("run", baselines, "--out", tmp_path / "run").exit_code == 0
    assert not list((tmp_path / "run").rglob(".*"))


def test_commands_that_write_are_refused_while_another_works_and_those_that_read_are_not(
    baselines: Path, tmp_path: Path
) -> None:
    run, grid, space = tmp_path / "run", tmp_path / "grid.toml", tmp_path / "space.toml"
    assert call("run", baselines, "--out", run).exit_code == 0
    variants = '[[variant]]\nname = "one"\n[[variant]]\nname = "two"\ntext.max_characters = 9\n'
    grid.write_text(f'[ablation]\nexperiment = "{baselines}"\ntokens = 1000\n{variants}')
    space.write_text(
        "[tuning]\ntokens = 1000\n[space]\ntraining.learning_rate = { low = 1e-4, high = 1e-1 }\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], text=True, stdout=subprocess.PIPE)
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        writing = [
            (stage, baselines)
            for stage in ("run", "prepare", "index", "write", "train", "recommend", "evaluate", "report")
        ]
        for arguments in [*writing, ("ablate", grid), ("tune", baselines, space), ("probe", "--quick")]:
            result = call(*arguments, "--out", run)
            assert result.exit_code == 2 and REFUSED.search(result.stderr), (arguments, result.output)
        reading = [("show", "experiment", baselines), ("show", "index", baselines, "--schemes", "numbers")]
        assert [call(*arguments).exit_code for arguments in reading] == [0, 0]
    finally:
        holder.kill()
        holder.wait()
    assert call("run", baselines, "--out", run).exit_code == 0
