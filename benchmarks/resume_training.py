"""kill -9 at random moments of a training, the same command again each time: the same weights, to the bit.

Trainings of a nano model of either family, with dropout, so that a random state that was not kept would show.
Each is killed once to four times, anywhere between its first line and its end, writing a checkpoint included,
and then let run to its end.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._killing import command, to_the_end, whole_checkpoints
from benchmarks._nano import bundled_hash
from benchmarks.harness import Claim, Result
from shelftalk import seeds
from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.runtime.run_folder import RunFolder

SEED = 0
KILLS, QUICK_KILLS = 20, 4
MOST_IN_A_RUN = 4
STEPS, EVERY = 60, 3
FAMILIES = ("decoder-only", "encoder-decoder")
CLAIMS = [
    "Trainings killed with SIGKILL at random moments and continued by the same command end with the weights "
    "of an uninterrupted training, to the bit",
    "So do optimiser, learning-rate schedule and random states in their last checkpoint, to the bit",
    "So do their validation losses at every step, and the step whose weights were kept",
    "Trainings continue behind the newest whole checkpoint, never from the start where there is one",
]
EXPERIMENT = """
name = "resume-training"
models = ["aligned"]
[nano]
family = "{family}"
width = 64
layers = 2
vocabulary = 1000
dropout = 0.1
[tasks]
retrieval = {{ weight = 0.5, targets = 5 }}
ranking = {{ weight = 0.05 }}
rating = {{ weight = 0.5, targets = 5 }}
masked_items = {{ weight = 0.2 }}
masked_language = {{ weight = 0.2 }}
pairwise_preference = {{ weight = 0.2 }}
[training]
epochs = 1
max_steps = {steps}
batch_tokens = 1024
validations = {validations}
validation_samples = 20
patience = 1000
"""


@dataclass(frozen=True)
class Bench:
    """An experiment of one family whose samples are in `written`, and what its uninterrupted training ended
    with."""

    family: str
    experiment: Path
    written: Path
    seconds: float
    """From the first line of the training to its end."""
    end: dict[str, Any]


def main(quick: bool) -> Result:
    draw = seeds.generator(SEED, "resume-training")
    kills = QUICK_KILLS if quick else KILLS
    with tempfile.TemporaryDirectory() as scratch:
        benches = [_uninterrupted(Path(scratch), family) for family in FAMILIES]
        runs: list[dict[str, Any]] = []
        while (done := sum(len(run["killed"]) for run in runs)) < kills:
            number = min(kills - done, int(draw.integers(1, 1 + (kills // 2 if quick else MOST_IN_A_RUN))))
            bench = benches[len(runs) % len(benches)]
            runs.append(_interrupted(bench, Path(scratch) / f"run-{len(runs)}", number, draw))
    output = f"of {len(runs)} trainings, killed {kills} times"
    claims = []
    for sentence, what in zip(CLAIMS, ("weights", "states", "validation", "continued"), strict=True):
        same = sum(run[what] for run in runs)
        claims.append(Claim(sentence, f"{same} {output}", f"all {len(runs)}", same == len(runs)))
    uninterrupted = [
        {
            "run": "uninterrupted",
            "family": bench.family,
            "seconds": round(bench.seconds, 1),
            "threads": torch.get_num_threads(),
        }
        for bench in benches
    ]
    return Result(SEED, claims, [*uninterrupted, *runs], bundled_hash())


def _uninterrupted(scratch: Path, family: str) -> Bench:
    """Write the samples, train once to the end."""
    experiment, written = scratch / f"{family}.toml", scratch / f"written-{family}"
    experiment.write_text(EXPERIMENT.format(family=family, steps=STEPS, validations=STEPS // EVERY))
    settings, folder = load_experiment(experiment, {"seed": SEED}), RunFolder(written)
    stages.claim(folder, settings)
    for stage in (stages.prepare, stages.index, stages.write):
        stage(folder, settings)
    whole = scratch / f"whole-{family}"
    shutil.copytree(written, whole)
    with _started(experiment, whole) as process:
        start = time.perf_counter()
        _ended(process)
        seconds = time.perf_counter() - start
    return Bench(family, experiment, written, seconds, _end(whole))


def _interrupted(bench: Bench, out: Path, kills: int, draw: np.random.Generator) -> dict[str, Any]:
    """One training, killed `kills` times and then let run to its end; fewer times where it came to its end
    before."""
    shutil.copytree(bench.written, out)
    killed: list[dict[str, Any]] = []
    while len(killed) < kills and (left := _killed(bench, out, draw)):
        killed.append(left)
    to_the_end("train", bench.experiment, out, SEED)
    end = _end(out)
    same = {what: end[what] == bench.end[what] for what in ("weights", "states", "validation")}
    continued = not killed or end["resumed_from"] == killed[-1]["newest checkpoint"]
    outcome = {"family": bench.family, "killed": killed, **same, "continued": continued}
    shutil.rmtree(out)
    return {"run": out.name, **outcome, "resumed_from": end["resumed_from"]}


def _killed(bench: Bench, out: Path, draw: np.random.Generator) -> dict[str, Any]:
    """Start the training and kill it at a random moment of what is left of it: what its folder held then;
    {} where it had ended.

    The moment is after a checkpoint drawn among those ahead, by up to the time from one to the next: a
    moment by the clock alone would fall after the end whenever the machine is faster than before.
    """
    newest = max(whole_checkpoints(out), default=0)
    # a training killed after its last checkpoint is killed again before its end
    ahead = min(newest, STEPS - EVERY)
    step, delay = int(draw.integers(ahead, STEPS)), float(draw.uniform(0, bench.seconds * EVERY / STEPS))
    with _started(bench.experiment, out) as process:
        while process.poll() is None and max(whole_checkpoints(out), default=0) < step - step % EVERY:
            time.sleep(0.01)
        time.sleep(delay)
        process.kill()
        if process.wait() == 0 or (out / "stages" / "train.json").exists():  # too late: all was written
            return {}
    whole, begun = whole_checkpoints(out), list(out.glob("checkpoints/checkpoint-*"))
    return {
        "newest checkpoint": max(whole, default=0),
        "seconds behind": round(delay, 2),
        "half-written": len(begun) - len(whole),
    }


def _started(experiment: Path, out: Path) -> subprocess.Popen[str]:
    """The command, as soon as it has printed that it trains, or when it has ended well."""
    process = subprocess.Popen(
        command("train", experiment, out, SEED),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        if line.startswith("train:"):
            return process
        lines.append(line)
    if process.wait() == 0:
        return process
    raise RuntimeError(f"the training ended with {process.wait()} before it had begun: {''.join(lines)}")


def _ended(process: subprocess.Popen[str]) -> None:
    _, output = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the training ended with {process.returncode}: {output}")


def _end(out: Path) -> dict[str, Any]:
    """What a finished training left, as values that are equal where every bit is."""
    facts = json.loads((out / "stages" / "train.json").read_text())["facts"]
    last = out / "checkpoints" / f"checkpoint-{facts['steps']}"
    weights = [(out / "model" / "model.safetensors").read_bytes(), (last / "model.safetensors").read_bytes()]
    states = [
        torch.load(last / name, weights_only=False)
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth")
    ]
    validation = sorted(
        (row["step"], row["task"], row["loss"]) for row in facts["curve"] if row["part"] == "validation"
    )
    return {
        "weights": [hashlib.sha256(content).hexdigest() for content in weights],
        "states": [*map(_digest, states)],
        "validation": (validation, facts["best_step"]),
        "resumed_from": facts["resumed_from"],
    }


def _digest(value: Any) -> str:
    """SHA-256 over every number and word in nested values."""
    digest = hashlib.sha256()
    for leaf in _leaves(value):
        digest.update(leaf + b"\x00")
    return digest.hexdigest()


def _leaves(value: Any) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode() + value.tobytes()
    elif isinstance(value, dict):
        for key in value:
            yield repr(key).encode()
            yield from _leaves(value[key])
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _leaves(one)
    else:
        yield repr(value).encode()
