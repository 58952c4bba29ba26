"""A service under load: `shelftalk serve` of a nano model on the bundled MovieLens, asked by a load generator
in a process of its own on loopback, beside one `generate` call per request.

The model is trained for a few steps only: what an answer costs depends on its size, on the catalogue (3,496
films, atomic names) and on the beams, not on what it has learnt. Both sides search with the same number of
beams; `generate` runs with the trie's logits processor, a request at a time, before the service is started.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from transformers import LogitsProcessorList

from benchmarks._nano import bundled_hash
from benchmarks.harness import Claim, Result
from shelftalk.decoding.item_trie import open_trie
from shelftalk.decoding.logits_processor import TrieLogitsProcessor
from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.pipeline.model_folder import TRIE_FOLDER
from shelftalk.pipeline.run import Run
from shelftalk.records import Request
from shelftalk.runtime.run_folder import RunFolder

CLAIMS = (
    "64 callers get at least four times as many answers a second as one generate call per request gives",
    "no error below the bound of the queue",
    "above the bound of the queue the only error is 429",
    "memory is flat under load",
    "the first answer comes within 3 s of the start",
)
SEED = 0
CONNECTIONS = (1, 8, 32, 64)
QUEUE_LIMIT = 256
TOO_MANY = 400
GENERATED = 20
SHOWN = 100
"""Films of a history that are sent; the model reads the last 40."""
GROWTH = 1.05
"""Highest memory in the last third of a load, over that of the second third."""


def main(quick: bool) -> Result:
    seconds, long = (10.0, 60.0) if quick else (60.0, 600.0)
    with tempfile.TemporaryDirectory() as scratch:
        run = _trained(Path(scratch) / "run")
        requests = run.split.retrieval_requests("test")[0]
        bodies = [json.dumps({"history": list(one.history[-SHOWN:]), "k": 10}) for one in requests]
        rows: list[dict[str, Any]] = [_generate(run, requests[:GENERATED])]
        with _service(run.folder.path, Path(scratch)) as (port, first_answer, process):
            rows.append({"side": "start", "seconds to the first answer": round(first_answer, 2)})
            rows += [_load(port, bodies, number, seconds) for number in CONNECTIONS]
            rows.append(_load(port, bodies, TOO_MANY, seconds))
            rows.append(_memory(port, bodies, long, process))
    return Result(SEED, _claims(rows), rows, bundled_hash())


def _claims(rows: Sequence[dict[str, Any]]) -> list[Claim]:
    per_second = {row["connections"]: row["answers per second"] for row in rows if "connections" in row}
    ratio = round(per_second[64] / rows[0]["answers per second"], 2)
    below = sum(
        number
        for row in rows
        if row.get("connections", TOO_MANY) < TOO_MANY
        for status, number in row["statuses"].items()
        if status != "200"
    )
    above = next(row["statuses"] for row in rows if row.get("connections") == TOO_MANY)
    others = sum(number for status, number in above.items() if status not in ("200", "429"))
    growth, start = rows[-1]["growth"], rows[1]["seconds to the first answer"]
    return [
        Claim(CLAIMS[0], ratio, ">= 4", ratio >= 4),
        Claim(CLAIMS[1], below, "0", below == 0),
        Claim(CLAIMS[2], others, "0 others", others == 0 and above.get("429", 0) > 0),
        Claim(CLAIMS[3], growth, f"<= {GROWTH}", growth <= GROWTH),
        Claim(CLAIMS[4], start, "<= 3", start <= 3),
    ]


def _trained(out: Path) -> Run:
    experiment = load_experiment(
        None, {"seed": SEED, "models": ["aligned"], "training": {"max_steps": 20, "validations": 1}}
    )
    folder = RunFolder(out)
    for stage in (stages.claim, stages.prepare, stages.index, stages.write, stages.train):
        stage(folder, experiment)
    return Run(folder, experiment)


def _generate(run: Run, requests: Sequence[Request]) -> dict[str, Any]:
    """One call of `generate` per request."""
    model, beams = run.language_model, run.experiment.decoding.beams
    trie, backbone = open_trie(run.folder.model / TRIE_FOLDER), model.backbone
    times = []
    for request in requests:
        start = time.perf_counter()
        ids = backbone.encode(model.prompt("retrieval", request)).ids
        processor = TrieLogitsProcessor(trie, backbone.tokenizer.eos_token_id, len(ids))
        with torch.no_grad(), backbone.precision():
            backbone.model.generate(
                input_ids=torch.from_numpy(ids[None].astype("int64")),
                logits_processor=LogitsProcessorList([processor]),
                num_beams=beams,
                num_return_sequences=10,
                max_new_tokens=4,
                do_sample=False,
            )
        times.append(time.perf_counter() - start)
    return {
        "side": "generate",
        "answers per second": round(len(times) / sum(times), 2),
        "p50, ms": round(1000 * float(np.median(times)), 1),
    }


@contextmanager
def _service(run: Path, scratch: Path) -> Iterator[tuple[int, float, psutil.Process]]:
    """`shelftalk serve`, its port, the seconds until its first answer, and its process."""
    command = [sys.executable, "-m", "shelftalk", "serve", str(run), "--port", "0"]
    command += ["--store", str(scratch / "store.sqlite"), "--limit", f"queue_limit={QUEUE_LIMIT}"]
    start = time.perf_counter()
    with (scratch / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            port = int(line.split("http://127.0.0.1:")[1].split()[0])
            while not _answers(port):
                time.sleep(0.01)
            yield port, time.perf_counter() - start, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)


def _answers(port: int) -> bool:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/recommend", b'{"history": []}', {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def _load(port: int, bodies: Sequence[str], connections: int, seconds: float) -> dict[str, Any]:
    given = {
        "port": port,
        "path": "/v1/recommend",
        "bodies": bodies,
        "connections": connections,
        "seconds": seconds,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._load"],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    latencies = np.array(answer["latencies"])
    return {
        "side": "service",
        "connections": connections,
        "answers per second": round(len(latencies) / answer["seconds"], 2),
        "p50, ms": round(1000 * float(np.quantile(latencies, 0.5)), 1),
        "p99, ms": round(1000 * float(np.quantile(latencies, 0.99)), 1),
        "statuses": answer["statuses"],
    }


def _memory(port: int, bodies: Sequence[str], seconds: float, process: psutil.Process) -> dict[str, Any]:
    """The highest resident memory in each third of a load of 64 callers."""
    thirds = []
    for _ in range(3):
        before = time.perf_counter()
        _load(port, bodies, 64, seconds / 3)
        thirds.append(round(process.memory_info().rss / 1e6, 1))
        assert time.perf_counter() - before >= seconds / 3
    return {
        "side": "memory",
        "seconds": seconds,
        "MB after each third": thirds,
        "growth": round(thirds[2] / thirds[1], 3),
    }
