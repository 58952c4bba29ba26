"""How far the estimates of `shelftalk plan` are off, where both can be measured: on this machine's processor.

Each model is planned here and trained for some steps in a fresh process, which reports its peak memory and
its seconds a step. Aims were set before measuring: kept activations and weights are counted, so memory
should be off by the libraries' own buffers alone (1.5 either way); time depends on a rate measured in a
second, on a machine whose speed varies (2 either way).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._nano import BUNDLED, bundled_hash
from benchmarks.harness import Claim, Result
from shelftalk.experiment import Experiment, load_experiment

MEMORY, TIME = 1.5, 2.0
CLAIMS = [
    f"For every model the estimated peak memory is within a factor of {MEMORY:g} of the measured (largest "
    "ratio, either way)",
    f"For every model the estimated time of a step is within a factor of {TIME:g} of the measured (largest "
    "ratio, either way)",
]
SEED = 0
T5_TASKS = {"retrieval": {"targets": 10}, "rating": {"targets": 10}}
FLAN_TASKS = {"retrieval": {"targets": 1}, "rating": {"targets": 1}, "pairwise_preference": {"questions": 1}}
PROGRAM = """
import json, resource, sys, tempfile, time
from pathlib import Path
from shelftalk.pipeline import stages
from shelftalk.experiment import load_experiment
from shelftalk.pipeline.fine_tuning import train_backbone
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder
experiment = load_experiment(sys.argv[1])
with tempfile.TemporaryDirectory() as scratch:
    folder = RunFolder(Path(scratch))
    for stage in (stages.prepare, stages.index, stages.write):
        stage(folder, experiment)
    before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    run = Run(folder, experiment)
    train_backbone(run, lambda done, steps, text: times.append((done, time.perf_counter())))
times = [moment for done, moment in times if done > 0]
seconds = sorted(late - early for early, late in zip(times, times[1:]))
print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "before": before * 1024,
    "seconds": sum(seconds) / len(seconds), "steps": len(times)}))
"""
"""What a run does up to the end of training, in a process of its own; the first step, which makes kernels, is
not timed."""


def main(quick: bool) -> Result:
    with tempfile.TemporaryDirectory() as scratch:
        models = _models(Path(scratch), quick)
        runs = [_measure(name, experiment, Path(scratch)) for name, experiment in models.items()]
    worst = {
        what: max(max(run[what], 1 / run[what]) for run in runs) for what in ("memory ratio", "time ratio")
    }
    claims = [
        Claim(CLAIMS[0], round(worst["memory ratio"], 2), f"<= {MEMORY:g}", worst["memory ratio"] <= MEMORY),
        Claim(CLAIMS[1], round(worst["time ratio"], 2), f"<= {TIME:g}", worst["time ratio"] <= TIME),
    ]
    return Result(SEED, claims, runs, bundled_hash())


def _models(folder: Path, quick: bool) -> dict[str, Experiment]:
    """Two nano models as `make run` has them; FLAN-T5-Base in its true architecture, plain and with what
    large models need."""
    short, few = {"max_steps": 40 if quick else 150}, {"max_steps": 3 if quick else 8}
    base = {"pretrained": {"name": str(_flan(folder)), "random_weights": True}, "tasks": FLAN_TASKS}
    large = {"batch_tokens": 1024, "learning_rate": 1e-4}
    spare = {"gradient_checkpointing": True, "gradient_accumulation": 2, "optimizer": "adafactor"}
    return {
        "nano, decoder-only": _experiment(short),
        "nano, encoder-decoder": _experiment(short, nano={"family": "encoder-decoder"}, tasks=T5_TASKS),
        "FLAN-T5-Base architecture, random weights": _experiment({**few, **large}, **base),
        "the same, checkpointing, accumulation, Adafactor": _experiment({**few, **large, **spare}, **base),
    }


def _experiment(training: dict[str, Any], **more: Any) -> Experiment:
    """One epoch, validated once, on few samples: steps are what is measured."""
    rest = {"epochs": 1, "validations": 1, "validation_samples": 4}
    return load_experiment(None, {"seed": SEED, "training": {**rest, **training}, **more})


def _flan(folder: Path) -> Path:
    import polars as pl

    from shelftalk.testing.t5_folder import FLAN_T5_BASE, save_flan_t5

    titles = pl.read_parquet(BUNDLED / "items.parquet")["title"].drop_nulls().to_list()
    return save_flan_t5(
        folder / "flan-t5-base",
        [*titles, "Films a viewer watched, oldest first and rated 0.5 1.0 4.5"],
        FLAN_T5_BASE,
    )


def _measure(name: str, experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Both sides of one model; ratios are estimated by measured."""
    from shelftalk.studies.planning.plan import HERE, Hardware, plan

    path = folder / "experiment.toml"
    path.write_text(experiment.toml(), encoding="utf-8")
    planned = plan(experiment, Hardware())
    estimated = planned.memory[HERE]["peak"], planned.times[-1]["hours"] * 3600 / planned.training["steps"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], check=True, capture_output=True, text=True
    )
    measured = json.loads(done.stdout.splitlines()[-1])
    return {
        "model": name,
        "parameters": planned.model["parameters"],
        "batch tokens": experiment.training.batch_tokens,
        "steps timed": measured["steps"] - 1,
        "estimated GB": round(estimated[0] / 1e9, 2),
        "measured GB": round(measured["peak"] / 1e9, 2),
        "memory ratio": round(estimated[0] / measured["peak"], 3),
        "of it before training, measured GB": round(measured["before"] / 1e9, 2),
        "estimated seconds a step": round(estimated[1], 3),
        "measured seconds a step": round(measured["seconds"], 3),
        "time ratio": round(estimated[1] / measured["seconds"], 3),
        "how the time was estimated": planned.assumptions[-1],
    }
