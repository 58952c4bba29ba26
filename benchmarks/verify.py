"""`shelftalk verify`: what it catches, and what it costs on the bundled data and on a million users' results.

The million users' lists are made up (_million.py); `--quick` has a hundred thousand of them. Each
verification is a process of its own, on one thread; the processor's time is what is claimed, since other work
on the machine does not change it, and the time that went by is beside it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._million import make
from benchmarks._nano import bundled_hash
from benchmarks.harness import Claim, Result
from shelftalk.certificate.certify import certify
from shelftalk.certificate.verify import verify
from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.runtime.run_folder import RunFolder, remove
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tampering import KINDS, LEFT_TO_HASHES, covered_up
from tests.end_to_end.tiny import save_world, write_experiment

CLAIMS = [
    "verify catches each kind of tampering, names it for what it is, and passes the run before it",
    "It catches what follows from other files even where all hashes were made to fit",
    "Certifying the run on the bundled data takes at most 10 seconds of a processor",
    "Verifying the run on the bundled data takes at most a minute of a processor and 1 GB, without torch",
    "Verifying a million users' results takes at most 2 minutes of one processor, on one thread",
    "It takes at most 4 GB",
]
SEED = 0
STEPS = 20
"""Of the training on the bundled data: the model's quality is not what is measured."""
ITEMS, EVENTS = 20_011, 5
"""Of the million users: a prime number of items, and what each user took."""


def main(quick: bool) -> Result:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        caught, runs = _tampering(folder / "tiny")
        bundled = _bundled(folder / "bundled")
        many = _many(folder / "many", 100_000 if quick else 1_000_000)
    kinds = len(KINDS)
    named = sum(run["named"] for run in runs if not run["covered up"])
    fitted = [run for run in runs if run["covered up"]]
    right = sum(run["named"] == run["follows"] for run in fitted)
    claims = [
        Claim(CLAIMS[0], f"{named} of {kinds}, honest run passes: {caught}", f"{kinds} of {kinds}",
              caught and named == kinds),
        Claim(CLAIMS[1], f"{right} of {len(fitted)}, {sum(not run['follows'] for run in fitted)} of them by "
              "the fingerprint alone", f"{len(fitted)} of {len(fitted)}", right == len(fitted)),
        Claim(CLAIMS[2], bundled["certify processor seconds"], "<= 10",
              bundled["certify processor seconds"] <= 10),
        Claim(CLAIMS[3], f"{bundled['processor seconds']} s, {bundled['gigabytes']} GB", "<= 60 s, <= 1 GB",
              bundled["verified"] and bundled["processor seconds"] <= 60 and bundled["gigabytes"] <= 1),
        Claim(CLAIMS[4], many["processor seconds"], "<= 120",
              many["verified"] and many["processor seconds"] <= 120),
        Claim(CLAIMS[5], many["gigabytes"], "<= 4", many["gigabytes"] <= 4),
    ]  # fmt: skip
    return Result(SEED, claims, [bundled, many, *runs], {"movielens-small": bundled_hash()})


def _tampering(folder: Path) -> tuple[bool, list[dict[str, Any]]]:
    """Whether the run passes as it is, and what each kind of tampering is called, with and without cover."""
    data = save_world(tiny_world(users=30, items=50), folder / "data")
    experiment = load_experiment(write_experiment(folder / "tiny.toml", data))
    run = RunFolder(folder / "run")
    stages.run_all(run, experiment)
    runs = []
    for kind in KINDS:
        for cover in (False, True):
            if cover and kind.name in LEFT_TO_HASHES:
                continue
            copy = RunFolder(Path(shutil.copytree(run.path, folder / "copy")))
            kind.tamper(copy)
            if cover:
                covered_up(copy)
            called = sorted({problem.kind for problem in verify(copy).problems})
            runs.append(
                {
                    "tampering": kind.name,
                    "covered up": cover,
                    "follows": kind.follows,
                    "named": kind.called in called,
                    "called": ", ".join(called),
                }
            )
            shutil.rmtree(copy.path)
    return verify(run).holds, runs


def _bundled(folder: Path) -> dict[str, Any]:
    tables = {
        "models": ["aligned", "item_knn", "popularity", "bias", "global_mean"],
        "training": {"max_steps": STEPS},
        "evaluation": {"held_out_templates": False, "search_error_users": 0},
    }
    run, experiment = RunFolder(folder), load_experiment(None, tables)
    stages.run_all(run, experiment)
    remove(run.manifest("certify"))
    start = time.process_time()
    certify(run, experiment)
    certified = round(time.process_time() - start, 1)
    return {"run": "bundled data", "certify processor seconds": certified, **_verified(folder)}


def _many(folder: Path, users: int) -> dict[str, Any]:
    start = time.perf_counter()
    run = make(folder, users, ITEMS, EVENTS, SEED)
    made = round(time.perf_counter() - start, 1)
    certified = round(run.needed("certify").seconds, 1)
    size = round(sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file()) / 1e9, 2)
    measured = _verified(run.path)
    return {
        "run": f"{users:,} users",
        "made in": made,
        "certify seconds": certified,
        "on disk GB": size,
    } | measured


def _verified(folder: Path) -> dict[str, Any]:
    """The command, on one thread, in a process of its own: its seconds and its highest memory."""
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS")}
    command = [sys.executable, "-m", "benchmarks._verifying", str(folder)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads})
    seconds = round(time.perf_counter() - start, 1)
    if done.returncode:
        raise SystemExit(done.stderr)
    return {"seconds": seconds, **json.loads(done.stdout.splitlines()[-1])}
