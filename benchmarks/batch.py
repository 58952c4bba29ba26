"""`shelftalk batch` over very many requests: constant memory, kill -9 in the middle, the same file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

from benchmarks._nano import bundled_hash
from benchmarks._served import published
from benchmarks.harness import Claim, Result
from shelftalk.data.splitting import Split
from shelftalk.runtime.file_hashes import sha256

CLAIMS = [
    "All requests are answered, a row each in their order",
    "The highest memory of all processes together in the second half of the batch is at most 1.05 times that "
    "in its first half",
    "Killed with SIGKILL in the middle and started again, the file is the same to the byte",
    "What was answered before the kill is not answered again, but for the shards under way",
]
SEED = 0
ROWS, QUICK_ROWS = 1_000_000, 2_000
SHARD, QUICK_SHARD = 1024, 128


def main(quick: bool) -> Result:
    rows, shard = (QUICK_ROWS, QUICK_SHARD) if quick else (ROWS, SHARD)
    with published() as (run, model, scratch):
        requests = _requests(run.split, scratch / "requests.jsonl", rows)
        whole = _batch(model, requests, scratch / "whole.parquet", shard)
        killed = _batch(model, requests, scratch / "killed.parquet", shard, kill_at=rows // shard // 2)
        continued = _batch(model, requests, scratch / "killed.parquet", shard)
        same = sha256(scratch / "whole.parquet") == sha256(scratch / "killed.parquet")
        users = pq.read_table(scratch / "whole.parquet", columns=["user_id"])["user_id"]
        ordered = len(users) == rows and all(
            user.as_py() == f"r{number}" for number, user in enumerate(users)
        )
    growth = whole["memory second half"] / whole["memory first half"]
    again = continued["answered now"] + killed["shards"] * shard - rows
    claims = [
        Claim(CLAIMS[0], str(ordered), "True", ordered),
        Claim(CLAIMS[1], round(growth, 3), "<= 1.05", growth <= 1.05),
        Claim(CLAIMS[2], str(same), "True", same),
        Claim(CLAIMS[3], again, "<= 0 requests twice", again <= 0),
    ]
    runs = [{"side": side, **values} for side, values in
            (("whole", whole), ("killed", killed), ("continued", continued))]  # fmt: skip
    return Result(SEED, claims, runs, bundled_hash())


def _requests(split: Split, path: Path, rows: int) -> Path:
    """Histories drawn from the training part, each a random stretch of some user's."""
    rng = np.random.default_rng(SEED)
    bounds = split.training_bounds[np.diff(split.training_bounds, axis=1)[:, 0] > 1]
    items, ids = split.dataset.event_item, split.dataset.item_ids
    with path.open("w") as file:
        for number in range(rows):
            first, last = bounds[rng.integers(len(bounds))]
            stop = int(rng.integers(first + 1, last + 1))
            start = max(int(first), stop - int(rng.integers(1, 41)))
            history = [ids[item] for item in items[start:stop]]
            file.write(json.dumps({"user_id": f"r{number}", "history": history}) + "\n")
    return path


def _batch(model: Path, requests: Path, out: Path, shard: int, kill_at: int = 0) -> dict[str, Any]:
    """The command, watched, and killed when so many shards are answered: seconds, requests per second, and
    the highest memory in MB of all its processes together in each half of its time."""
    command = [sys.executable, "-m", "shelftalk", "batch", str(model), "--requests", str(requests)]
    command += ["--out", str(out), "--shard-size", str(shard), "--json"]
    start, memory = time.perf_counter(), list[tuple[float, float]]()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    while process.poll() is None:
        seconds = time.perf_counter() - start
        memory.append((seconds, _megabytes(process.pid)))
        shards = len(list(out.with_name(f"{out.name}.parts").glob("answers-*.parquet")))
        if kill_at and shards >= kill_at:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return {"seconds": seconds, "shards": shards}
        time.sleep(0.2)
    seconds = time.perf_counter() - start
    answer = json.loads(process.stdout.read() if process.stdout else "{}")
    answering = [(when, size) for when, size in memory if when > 0.2 * seconds]  # models are open by then
    half = (answering[0][0] + seconds) / 2
    first = max(size for when, size in answering if when <= half)
    second = max(size for when, size in answering if when > half)
    return {
        "seconds": seconds,
        "requests": answer["requests"],
        "answered now": answer["answered now"],
        "requests per second": answer["answered now"] / seconds,
        "memory first half": first,
        "memory second half": second,
    }


def _megabytes(process: int) -> float:
    """Of a process and its children; 0 once it has ended."""
    try:
        parent = psutil.Process(process)
        return sum(one.memory_info().rss for one in [parent, *parent.children(recursive=True)]) / 1e6
    except psutil.Error:
        return 0.0
