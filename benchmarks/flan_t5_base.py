"""FLAN-T5-Base and -XL as they are built, on a machine of 16 GB: training, checkpoint, kill, resume and
constrained decoding with -Base; shapes and the planner's estimate with -XL.

The architectures are the published ones, weight for weight; the weights are random and the tokenizer is a
small one of T5's kind, since neither can be fetched without the hub. So nothing here shows how well either
model recommends: only that all of the way runs, what memory it takes, and that nothing is lost when it is
killed. Data: the bundled MovieLens, an id and the title as names. Each command is a process of its own, whose
highest memory the system reports.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
import torch

from benchmarks._killing import command, whole_checkpoints
from benchmarks._nano import BUNDLED, bundled_hash
from benchmarks.harness import Claim, Result
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.models.pretrained import meta_model
from shelftalk.models.settings import PretrainedSettings
from shelftalk.pipeline import stages
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.studies.planning.plan import Hardware, plan
from shelftalk.testing.t5_folder import FLAN_T5_BASE, FLAN_T5_XL, save_flan_t5

SEED = 0
BASE, XL = 247_577_856, 2_849_757_184
"""Weights of google/flan-t5-base and google/flan-t5-xl as published."""
MEMORY = 16.0
STEPS, EVERY = 4, 2
USERS, QUICK_USERS = 20, 4
GPUS = 8
PAPER_XL = Path(__file__).parents[1] / "experiments" / "paper" / "beauty-flan-t5-xl.toml"
CLAIMS = [
    "The model trained has as many weights as the published FLAN-T5-Base",
    "Training steps with AdamW and a checkpoint, the highest memory of the process in GB",
    "A training killed with SIGKILL behind its first checkpoint and continued by the same command ends with "
    "the weights of an uninterrupted one, to the bit, and so do the optimiser's moments",
    "Constrained beam search answers with distinct items of the catalogue alone, none of them from the "
    "history",
    "Constrained beam search, the highest memory of the process in GB",
    "FLAN-T5-XL on the meta device has as many weights as the published one",
    f"FLAN-T5-XL with the paper's settings but AdamW, on the bundled data and divided among {GPUS} GPUs of "
    "80 GB, fits them by the planner's estimate (GB for each)",
]
TASKS = {
    "retrieval": {"targets": 1, "weight": 0.02},
    "ranking": {"weight": 0.02, "max_history": 10, "max_negatives": 19},
    "rating": {"targets": 1, "weight": 0.02, "max_history": 15},
    "masked_items": {"weight": 0.02, "max_history": 15},
    "masked_language": {"weight": 0.02, "max_history": 12},
    "pairwise_preference": {"questions": 1, "weight": 0.02, "max_history": 15},
}
TRAINING = {
    "epochs": 1,
    "max_steps": STEPS,
    "batch_tokens": 1024,
    "learning_rate": 1e-4,
    "validations": STEPS // EVERY,
    "validation_samples": 8,
    "patience": 1000,
    "trackers": [],
}
DECODE = "from benchmarks.flan_t5_base import _decoded; import sys; _decoded(sys.argv[1], int(sys.argv[2]))"


def main(quick: bool) -> Result:
    """--quick: lists for fewer users."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        settings = _experiment(folder)
        file = folder / "flan-t5-base.toml"
        file.write_text(settings.toml(), encoding="utf-8")
        whole, killed = folder / "whole", folder / "killed"
        _written(settings, whole)
        shutil.copytree(whole, killed)
        uninterrupted = _to_the_end(command("train", file, whole, SEED))
        left = _killed(command("train", file, killed, SEED), killed)
        continued = _to_the_end(command("train", file, killed, SEED))
        ends = [_end(out) for out in (whole, killed)]
        moments = _same_moments(whole, killed)
        decoding = _to_the_end(
            [sys.executable, "-c", DECODE, str(whole), str(QUICK_USERS if quick else USERS)]
        )
        lists = json.loads(decoding.pop("output").splitlines()[-1])
        xl = _xl(folder)
    same = ends[0]["weights"] == ends[1]["weights"] and moments
    training = max(uninterrupted["peak GB"], continued["peak GB"])
    each = xl["each GPU, GB"]
    claims = [
        Claim(CLAIMS[0], ends[0]["parameters"], str(BASE), ends[0]["parameters"] == BASE),
        Claim(CLAIMS[1], training, f"<= {MEMORY:g}", training <= MEMORY),
        Claim(
            CLAIMS[2],
            f"continued behind step {ends[1]['resumed from']}: {'the same' if same else 'others'}",
            "the same",
            same,
        ),
        Claim(
            CLAIMS[3], f"{lists['valid']} of {lists['asked']} lists", "all", lists["valid"] == lists["asked"]
        ),
        Claim(CLAIMS[4], decoding["peak GB"], f"<= {MEMORY:g}", decoding["peak GB"] <= MEMORY),
        Claim(CLAIMS[5], xl["parameters"], str(XL), xl["parameters"] == XL),
        Claim(CLAIMS[6], each, "<= 76 (95 % of 80)", each <= 76),
    ]
    runs = [
        {
            "run": "uninterrupted",
            "steps": STEPS,
            **{name: uninterrupted[name] for name in ("seconds", "peak GB")},
            **ends[0],
        },
        {"run": "killed", "signal": "SIGKILL", "newest checkpoint": left},
        {"run": "continued", **{name: continued[name] for name in ("seconds", "peak GB")}, **ends[1]},
        {"run": "decoding", **decoding, **lists},
        {"run": "FLAN-T5-XL", **xl},
    ]
    return Result(SEED, claims, runs, bundled_hash())


def _experiment(folder: Path) -> Experiment:
    start = {"name": str(_flan(folder / "flan-t5-base", FLAN_T5_BASE)), "random_weights": True}
    index = {"scheme": "mixed", "ids": "atomic", "title_characters": 40}
    more = {"pretrained": start, "index": index, "tasks": TASKS, "training": TRAINING, "text": {"fields": []}}
    return load_experiment(None, {"name": "flan-t5-base", "seed": SEED, "models": ["aligned"], **more})


def _flan(folder: Path, sizes: dict[str, int]) -> Path:
    titles = pl.read_parquet(BUNDLED / "items.parquet")["title"].drop_nulls().to_list()
    return save_flan_t5(
        folder, [*titles, "Films a viewer watched, oldest first and rated 0.5 1.0 4.5"], sizes
    )


def _written(settings: Experiment, out: Path) -> None:
    """The contents of a run's folder before training."""
    folder = RunFolder(out)
    stages.claim(folder, settings)
    for stage in (stages.prepare, stages.index, stages.write):
        stage(folder, settings)


def _to_the_end(arguments: list[str]) -> dict[str, Any]:
    """A command: its output, its seconds, and the highest memory of its process (Linux counts in kB)."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(arguments, stdout=stdout, stderr=stderr)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            stderr.seek(0)
            raise RuntimeError(f"the command ended with {process.returncode}: {stderr.read().decode()}")
        stdout.seek(0)
        text = stdout.read().decode()
    print(
        arguments[1:4],
        round(time.perf_counter() - start, 1),
        "s",
        round(used.ru_maxrss / 1e6, 2),
        "GB",
        flush=True,
    )
    return {
        "output": text,
        "seconds": round(time.perf_counter() - start, 1),
        "peak GB": round(used.ru_maxrss / 1e6, 2),
    }


def _killed(words: list[str], out: Path) -> int:
    """Start a training and kill it in the step after its first checkpoint; the newest whole checkpoint
    then."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not whole_checkpoints(out):
        if process.poll() is not None:
            raise RuntimeError(f"the training ended with {process.returncode} before its first checkpoint")
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise RuntimeError("the training had ended before it was killed; make it longer")
    return max(whole_checkpoints(out))


def _end(out: Path) -> dict[str, Any]:
    facts = json.loads((out / "stages" / "train.json").read_text("utf-8"))["facts"]
    weights = [
        out / "model" / "model.safetensors",
        out / "checkpoints" / f"checkpoint-{STEPS}" / "model.safetensors",
    ]
    return {
        "parameters": facts["parameters"],
        "tokens": facts["tokens"],
        "resumed from": facts["resumed_from"],
        "bf16 products": facts["bf16"],
        "weights": [hashlib.sha256(path.read_bytes()).hexdigest() for path in weights],
    }


def _same_moments(one: Path, other: Path) -> bool:
    """Whether the optimiser's state after the last step is equal, number by number."""
    paths = [out / "checkpoints" / f"checkpoint-{STEPS}" / "optimizer.pt" for out in (one, other)]
    states = [torch.load(path, weights_only=True, mmap=True)["state"] for path in paths]
    if states[0].keys() != states[1].keys():
        return False
    return all(
        torch.equal(values[name], states[1][key][name])
        for key, values in states[0].items()
        for name in values
    )


def _decoded(out: str, users: int) -> None:
    """Lists of ten for some users of the test part, held against the catalogue and the histories; printed."""
    folder = RunFolder(Path(out))
    run = Run(folder, load_experiment(folder.experiment))
    requests, _ = run.split.retrieval_requests("test")
    start = time.perf_counter()
    answers = run.language_model.recommend(requests[:users], 10)
    seconds = time.perf_counter() - start
    catalogue = set(run.split.dataset.item_ids)
    valid = 0
    for request, answer in zip(requests, answers, strict=False):
        items, seen = set(answer.items), set(request.history)
        valid += len(items) == len(answer.items) == 10 and items <= catalogue and not items & seen
    beams = run.experiment.decoding.beams
    print(
        json.dumps(
            {"asked": users, "valid": valid, "beams": beams, "seconds a user": round(seconds / users, 2)}
        )
    )


def _xl(folder: Path) -> dict[str, Any]:
    """FLAN-T5-XL without its weights: counted, and planned with the paper's settings on the bundled data."""
    where = str(_flan(folder / "flan-t5-xl", FLAN_T5_XL))
    known = meta_model(PretrainedSettings(name=where), []).parameters
    changes = {
        "data": {"folder": None, "bundled": "movielens-small"},
        "pretrained": {"name": where},
        "training": {"optimizer": "adamw"},
    }
    planned = plan(load_experiment(PAPER_XL, changes), Hardware("a100-80gb", gpus=GPUS))
    peaks = {name: round(parts["peak"] / 1e9, 1) for name, parts in planned.memory.items()}
    hours = {f"hours, {row['where']}, {row['training']}": round(row["hours"], 2) for row in planned.times}
    each = next(value for name, value in peaks.items() if name.startswith("each of") and "full" in name)
    return {
        "parameters": known,
        "each GPU, GB": each,
        **{f"GB, {name}": value for name, value in peaks.items()},
        **hours,
    }
