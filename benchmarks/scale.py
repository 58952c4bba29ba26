"""A run over generated data of many sizes, from the files to the first thousand steps of the nano model: time
and highest memory of every stage, each in a process of its own, and with which power of the size each
increases.

The items are a tenth of the interactions, a million at most. Samples are next-item samples; item names are
numbers, whose index needs no vectors, and with `vectors` in the row atomic names with start vectors.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._generated import generate
from benchmarks.harness import Claim, Result
from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.runtime.run_folder import RunFolder, peak_gigabytes

CLAIMS = [
    "No stage before training takes time that increases faster than n log n (largest exponent of a line "
    "through the logarithms of the two largest sizes, with the processor's seconds)",
    "No stage's highest memory increases faster than the data (largest such exponent)",
]
SEED = 0
STAGES = ("prepare", "index", "write", "train")
STEPS = 1000
OTHER_TASKS = ("ranking", "masked_items", "masked_language", "pairwise_preference", "rating")


def main(quick: bool) -> Result:
    """--quick has 10^4 and 10^5 interactions and 20 steps; else 10^5 to 10^7."""
    sizes = [10_000, 100_000] if quick else [100_000, 1_000_000, 10_000_000]
    runs = []
    for rows in sizes:
        items = min(1_000_000, rows // 10)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            number = generate(folder / "data", rows, items, SEED)
            for stage in STAGES:
                facts = _process(folder, stage, 20 if quick else STEPS)
                runs.append({"stage": stage, "interactions": number, "items": items, **facts})
                print(runs[-1], flush=True)
    exponents = [
        {
            "stage": stage,
            "time": _exponent(runs, stage, "processor seconds"),
            "memory": _exponent(runs, stage, "highest GB"),
        }
        for stage in STAGES
    ]
    slowest = max(row["time"] for row in exponents if row["stage"] != "train")
    largest = max(row["memory"] for row in exponents)
    claims = [
        Claim(CLAIMS[0], round(slowest, 2), "<= 1.15", slowest <= 1.15),
        Claim(CLAIMS[1], round(largest, 2), "<= 1", largest <= 1),
    ]
    return Result(SEED, claims, [*runs, *exponents])


def _exponent(runs: list[dict[str, Any]], stage: str, what: str) -> float:
    one, other = [run for run in runs if run["stage"] == stage][-2:]
    return round(
        float(np.log(other[what] / one[what]) / np.log(other["interactions"] / one["interactions"])), 3
    )


def _process(folder: Path, stage: str, steps: int) -> dict[str, Any]:
    program = f"from benchmarks.scale import _stage; _stage({str(folder)!r}, {stage!r}, {steps})"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _stage(folder: str, stage: str, steps: int) -> None:
    """Does one stage, and prints its seconds and the highest memory of the process as JSON."""
    experiment = load_experiment(
        None,
        {
            "name": "generated",
            "seed": SEED,
            "models": ["aligned"],
            "data": {"folder": f"{folder}/data", "k_core": 2},
            "index": {"scheme": "numbers"},
            "tasks": {name: {"weight": 0.0} for name in OTHER_TASKS},
            "training": {
                "epochs": 1,
                "max_steps": steps,
                "batch_tokens": 1024,
                "validations": 1,
                "validation_samples": 50,
                "trackers": [],
            },
        },
    )
    run = RunFolder(Path(folder) / "run")
    stages.claim(run, experiment)
    start, used = time.perf_counter(), time.process_time()
    getattr(stages, stage)(run, experiment)
    print(
        json.dumps(
            {
                "seconds": round(time.perf_counter() - start, 2),
                "processor seconds": round(time.process_time() - used, 2),
                "highest GB": peak_gigabytes(),
            }
        )
    )
