"""The report of a million users' results: how long it takes to write and to verify, and how much memory.

The lists of two models are made up (_million.py); metrics, intervals, slices and differences are computed as
the program does. Report and verification are processes of their own, each on one thread, so that processor
time is what they take where nothing else runs; the wall time beside it holds what else did. `--quick` has a
hundred thousand users.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Claim, Result
from shelftalk.runtime.run_folder import RunFolder

CLAIMS = [
    "A report of a million users' results is written and verified within 2 minutes of one core",
    "Neither takes more than 4 GB, and neither loads torch",
]
SEED = 0
ITEMS, EVENTS = 20_011, 5
"""A prime number of items, and what each user took."""
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS")}


def main(quick: bool) -> Result:
    users = 100_001 if quick else 1_000_000  # more than are drawn one by one
    with tempfile.TemporaryDirectory() as scratch:
        made, run = _made(Path(scratch), users)
        report = {"step": "report", "users": users, **_process("_reporting", run.path)}
        verified = {"step": "verify", "users": users, **_process("_verifying", run.path)}
    seconds = report["processor seconds"] + verified["processor seconds"]
    memory = max(report["gigabytes"], verified["gigabytes"])
    claims = [
        Claim(CLAIMS[0], round(seconds, 1), "<= 120", verified["verified"] and seconds <= 120),
        Claim(CLAIMS[1], memory, "<= 4", report["written"] and verified["verified"] and memory <= 4),
    ]
    return Result(SEED, claims, [made, report, verified])


def _made(folder: Path, users: int) -> tuple[dict[str, Any], RunFolder]:
    """The run, made in a process on one thread, and the time of its stages."""
    program = (
        "from pathlib import Path; from benchmarks._million import make; "
        f"make(Path({str(folder / 'many')!r}), {users}, {ITEMS}, {EVENTS}, {SEED})"
    )
    start = time.perf_counter()
    _checked([sys.executable, "-c", program])
    seconds = round(time.perf_counter() - start, 1)
    run = RunFolder(folder / "many" / "run")
    stages = {
        f"{name} seconds": round(run.needed(name).seconds, 1) for name in ("prepare", "evaluate", "certify")
    }
    size = round(sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file()) / 1e9, 2)
    return {"step": "make", "users": users, "seconds": seconds, **stages, "on disk GB": size}, run


def _process(module: str, folder: Path) -> dict[str, Any]:
    """A command of benchmarks/ in a process of its own: its seconds, and what it printed."""
    start = time.perf_counter()
    printed = _checked([sys.executable, "-m", f"benchmarks.{module}", str(folder)])
    return {"seconds": round(time.perf_counter() - start, 1), **json.loads(printed.splitlines()[-1])}


def _checked(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **THREADS}, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout
