"""kill -9 in the middle of training, then the same command: the same samples, the same metrics as an
uninterrupted run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._killing import command, to_the_end, whole_checkpoints
from benchmarks._nano import bundled_hash
from benchmarks.harness import Claim, Result, data_hash

CLAIMS = [
    "A run killed with SIGKILL in the middle of training and started again ends with the metrics of an "
    "uninterrupted run",
    "It continues from a checkpoint and not from the start",
    "Its sample files are those of the uninterrupted run, to the byte",
    "A second uninterrupted run with the same seed has the same sample files, to the byte, and the same "
    "metrics",
]
SEED = 0
EXPERIMENT = """
name = "resume"
models = ["aligned"]
[training]
epochs = 1
max_steps = {steps}
validations = 6
validation_samples = 200
[evaluation]
held_out_templates = false
"""


def main(quick: bool) -> Result:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        experiment = folder / "resume.toml"
        experiment.write_text(EXPERIMENT.format(steps=60 if quick else 240))
        whole, again = _run(experiment, folder / "whole"), _run(experiment, folder / "again")
        killed_at = _killed(experiment, folder / "killed")
        resumed = _run(experiment, folder / "killed")
        same = {name: _same(folder / "whole", folder / name) for name in ("again", "killed")}
    repeated = same["again"] and again["metrics"] == whole["metrics"]
    claims = [
        Claim(
            CLAIMS[0],
            str(resumed["metrics"] == whole["metrics"]),
            "True",
            resumed["metrics"] == whole["metrics"],
        ),
        Claim(CLAIMS[1], resumed["resumed_from"], "> 0 steps", resumed["resumed_from"] > 0),
        Claim(CLAIMS[2], str(same["killed"]), "True", same["killed"]),
        Claim(CLAIMS[3], str(repeated), "True", repeated),
    ]
    runs = [
        {"run": "uninterrupted", **whole},
        {"run": "uninterrupted again", **again},
        {"run": "killed, then resumed", "killed after the checkpoint of step": killed_at, **resumed},
    ]
    return Result(SEED, claims, runs, bundled_hash())


def _run(experiment: Path, out: Path) -> dict[str, Any]:
    start = time.perf_counter()
    to_the_end("run", experiment, out, SEED)
    facts = json.loads((out / "stages" / "train.json").read_text())["facts"]
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "metrics": json.loads((out / "metrics.json").read_text()),
        "resumed_from": facts["resumed_from"],
        "steps": facts["steps"],
    }


def _killed(experiment: Path, out: Path) -> int:
    """Start, wait for the second checkpoint to be whole, kill without warning; returns the checkpoint's
    step."""
    process = subprocess.Popen(
        command("run", experiment, out, SEED), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while process.poll() is None:
            whole = whole_checkpoints(out)
            if len(whole) >= 2:
                time.sleep(0.5)  # into the steps after it
                os.kill(process.pid, signal.SIGKILL)
                return whole[-1]
            time.sleep(0.02)
    finally:
        process.wait()
    raise RuntimeError("the training ended before it could be killed")


def _same(one: Path, other: Path) -> bool:
    return data_hash((one / "samples").iterdir()) == data_hash((other / "samples").iterdir())
