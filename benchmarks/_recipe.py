"""experiments/best.toml through the command line, as a user runs it, with what a benchmark changes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import tomli_w

from benchmarks.harness import REPOSITORY
from shelftalk.experiment import load_experiment
from shelftalk.pipeline.run import Run, open_run

RECIPE = REPOSITORY / "experiments" / "best.toml"


def run_recipe(
    kept: Path, name: str, seed: int, changes: Mapping[str, Any], folder: Path | None, *more: str
) -> Run:
    """The recipe with these changes and further models, on a folder of data or, for None, on the bundled one:
    kept/NAME-SEED. Finished stages are skipped."""
    experiment = load_experiment(RECIPE, changes)
    values = experiment.model_dump(mode="json", exclude_none=True)
    values["models"] = list(dict.fromkeys([*experiment.models, *more]))
    file, out = kept / f"{name}-{seed}.toml", kept / f"{name}-{seed}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(tomli_w.dumps(values))
    source = os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "shelftalk", "run", str(file), "--out", str(out), "--seed", str(seed)]
    command += ["--data", str(folder)] if folder else []
    if subprocess.run(command, env={**os.environ, "PYTHONPATH": source}).returncode:
        raise SystemExit(f"`{' '.join(command)}` failed; its message is above.")
    return open_run(out)


def user_table(run: Run, task: str, model: str) -> pl.DataFrame:
    """The per-user values of one model."""
    frame = pl.read_parquet(run.folder.evaluation(task))
    return frame.filter(pl.col("model") == model).drop("model")


def files(folder: Path) -> Sequence[Path]:
    """The data files of a folder, for their hash."""
    return sorted(folder.glob("*.parquet"))
