"""The main job as a user does it: `make run` in a clean clone, set-up included, and the built wheel outside
the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import psutil

from benchmarks._nano import bundled_hash
from benchmarks.harness import Claim, Result

CLAIMS = [
    "`make run` from a clean clone, set-up included, takes at most 10 minutes on 2 cores",
    "Peak memory of `make run`, all processes together, is under 4 GB",
    "The wheel, installed outside the checkout in an empty environment, does the same with `shelftalk run` "
    "within the same limits",
    "The aligned nano model alone has at least twice popularity's Recall@10 on the test part",
    "aligned+prior has a higher NDCG@10 than item_knn on the test part, paired, its 95 % interval above zero",
    "The rating RMSE of the aligned nano model is not above the bias baseline's",
]
REPOSITORY = Path(__file__).resolve().parents[1]


def main(quick: bool) -> Result:
    """--quick leaves the wheel out; a run from a clean clone is what it is, about ten minutes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(folder / "clone")], check=True)
        clone = _timed(["make", "run"], folder / "clone")
        out = folder / "clone" / "runs" / "movielens-small"
        runs = [{"run": "make run in a clean clone", **clone, **_facts(out)}]
        if not quick:
            runs.append(
                {
                    "run": "wheel outside the checkout",
                    **_wheel(folder),
                    **_facts(folder / "elsewhere" / "run"),
                }
            )
        return Result(0, _claims(runs), runs, bundled_hash())


def _wheel(folder: Path) -> dict[str, Any]:
    """Build, install with the lock file's versions, run in a folder of its own."""
    clone, elsewhere = folder / "clone", folder / "elsewhere"
    elsewhere.mkdir()
    python = elsewhere / "venv" / "bin" / "python"
    pip_wheel = [
        str(clone / ".venv/bin/python"),
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run([*pip_wheel, "-w", str(elsewhere), str(clone)], check=True, capture_output=True)
    wheel = next(elsewhere.glob("*.whl"))
    subprocess.run([sys.executable, "-m", "venv", str(elsewhere / "venv")], check=True)
    lock = clone / "requirements.lock"
    subprocess.run(
        [str(python), "-m", "pip", "install", "-q", str(wheel), "-c", str(lock)],
        check=True,
        capture_output=True,
    )
    file = clone / "experiments" / "movielens-small.toml"
    command = [str(python.parent / "shelftalk"), "run", str(file), "--out", str(elsewhere / "run")]
    return _timed(command, elsewhere)


def _timed(command: Sequence[str], folder: Path) -> dict[str, Any]:
    """Wall time, and the highest memory of the command's processes together, looked at five times a
    second."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    start = time.perf_counter()
    process = subprocess.Popen(
        list(command),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peaks = [0.0]
    watch = threading.Thread(target=_watch, args=(process.pid, peaks), daemon=True)
    watch.start()
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{output[-2000:]}")
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "peak memory GB": round(peaks[0], 2),
        "report": Path(output.strip().splitlines()[-1].removeprefix("Report: ")).name,
    }


def _watch(pid: int, peaks: list[float]) -> None:
    while psutil.pid_exists(pid):
        try:
            parent = psutil.Process(pid)
            total = (
                sum(process.memory_info().rss for process in [parent, *parent.children(recursive=True)]) / 1e9
            )
            peaks[0] = max(peaks[0], total)
        except psutil.Error:
            pass
        time.sleep(0.2)


def _facts(out: Path) -> dict[str, Any]:
    """Metrics, differences, slices and other templates of `aligned`, what was chosen, and how long the stages
    took."""
    report = json.loads((out / "report.json").read_text())
    differences = pl.read_parquet(out / "evaluation" / "differences.parquet")
    files = {path.stem: json.loads(path.read_text()) for path in (out / "stages").glob("*.json")}
    # other files there are no manifests of a stage
    stages = {name: content for name, content in files.items() if "facts" in content}
    return {
        "metrics": json.loads((out / "metrics.json").read_text()),
        "differences": differences.filter(pl.col("first").str.starts_with("aligned")).to_dicts(),
        "slices": [row for row in report["slices"] if row["model"] == "aligned"],
        "other templates": report["held_out_templates"],
        "chosen": [sentence for stage in stages.values() for sentence in stage["facts"].get("chosen", [])],
        "stage seconds": {name: round(stage["seconds"], 1) for name, stage in stages.items()},
    }


def _claims(runs: Sequence[dict[str, Any]]) -> list[Claim]:
    first, metrics = runs[0], runs[0]["metrics"]
    recall = {name: metrics["retrieval"][name]["recall@10"] for name in ("aligned", "popularity")}
    ratio = recall["aligned"] / recall["popularity"]
    gap = next(
        d
        for d in first["differences"]
        if (d["first"], d["second"], d["metric"], d["task"])
        == ("aligned+prior", "item_knn", "ndcg@10", "retrieval")
    )
    rmse = {name: round(metrics["rating"][name]["rmse"], 4) for name in ("aligned", "bias")}
    claims = [
        Claim(CLAIMS[0], first["seconds"], "<= 600 seconds", first["seconds"] <= 600),
        Claim(CLAIMS[1], first["peak memory GB"], "< 4 GB", first["peak memory GB"] < 4),
        Claim(CLAIMS[3], round(ratio, 2), ">= 2", ratio >= 2),
        Claim(CLAIMS[4], "{value:.4f} [{low:.4f}, {high:.4f}]".format(**gap), "low end > 0", gap["low"] > 0),
        Claim(CLAIMS[5], rmse["aligned"], f"<= {rmse['bias']} (bias)", rmse["aligned"] <= rmse["bias"]),
    ]
    if len(runs) > 1:
        wheel = runs[1]
        same = wheel["metrics"] == metrics
        measured = f"same metrics: {same}, {wheel['seconds']} s, {wheel['peak memory GB']} GB"
        holds = same and wheel["seconds"] <= 600 and wheel["peak memory GB"] < 4
        claims.insert(2, Claim(CLAIMS[2], measured, "same, <= 600 seconds, < 4 GB", holds))
    return claims
