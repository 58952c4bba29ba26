"""Every baseline on Beauty and on the bundled MovieLens, one process of one thread each, through the command
line: what it reaches, what it chose out of how many settings, time and memory, and its difference from
item_knn (for ratings from bias).

Beauty is measured where it is at hand (see benchmarks/item_knn.py). The runs are kept in runs/benchmarks/, so
that an interrupted measurement continues; remove that folder to measure all of it again. Where the package
can shuffle the order of events at one time, Beauty is measured in that order too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import tomli_w

import shelftalk
from benchmarks.harness import REPOSITORY, Claim, Result, data_hash
from benchmarks.item_knn import BEAUTY, PUBLISHED
from shelftalk import parts
from shelftalk.data.splitting import SplitSettings
from shelftalk.runtime.run_folder import RunFolder, write_json

CLAIMS = [
    "sasrec has Recall@10 of .080 and NDCG@10 of .045 or more on Beauty's test part (train-only)",
    "slist or tale, chosen on validation, has Recall@10 of .086 and NDCG@10 of .053 or more there",
    "That takes at most three minutes of one core: fitting, choosing, answering retrieval and ranking",
    "item_knn has Recall@10 of .0934 within .003 there",
    "matrix_factorisation has an RMSE of .871 or less on MovieLens' test ratings",
    "bias has an RMSE of .875 within .001 there",
    "At least ten baselines are measured on Beauty",
    "At least ten baselines are measured on MovieLens",
]
SEED = 0
NAMES = (
    "popularity",
    "recent_popularity",
    "transition_graph",
    "ease",
    "slist",
    "tale",
    "als",
    "sasrec",
    "sasrec_sampled",
    "bpr_mf",
    "simplex",
    "fusion",
    "item_knn",
    "global_mean",
    "matrix_factorisation",
    "svd_plus_plus",
    "bias",
)
"""Measured where the package has them; those that others are held against stand last of their tasks."""
SLOW = ("sasrec", "sasrec_sampled", "bpr_mf", "simplex", "svd_plus_plus")
"""Left out with --quick."""
REFERENCE = {"retrieval": "item_knn", "ranking": "item_knn", "rating": "bias"}
ORDERS = ("published", "shuffled") if "ties" in SplitSettings.model_fields else ("published",)
KEPT = Path("runs/benchmarks/baselines")
BUNDLED = Path(shelftalk.__file__).parent / "data" / "bundled" / "movielens-small"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")


def main(quick: bool) -> Result:
    """--quick measures MovieLens, without what takes minutes there."""
    data = {"movielens-small": BUNDLED}
    runs = _measured("movielens-small", {}, "published", SLOW if quick else ())
    if not quick and BEAUTY.is_dir():
        data["beauty"] = BEAUTY
        for order in ORDERS:
            runs += _measured("beauty", {"folder": str(BEAUTY), **PUBLISHED}, order, ())
    elif not quick:
        print("Beauty is not on this machine (name its folder in SHELFTALK_BEAUTY) and is left out.")
    return Result(
        SEED, claims_of(runs), runs, {name: data_hash(at.glob("*.parquet")) for name, at in data.items()}
    )


def _measured(
    data: str, settings: dict[str, Any], order: str, left_out: Sequence[str]
) -> list[dict[str, Any]]:
    """A row per task and model: metrics with intervals, differences, what was chosen, and costs."""
    named = [name for name in NAMES if name in parts.MODELS and name not in left_out]
    if data == "beauty":  # it has no ratings
        named = [name for name in named if parts.MODELS[name].tasks != ("rating",)]
    ties = {"ties": order} if order != "published" else {}
    experiment = {"name": f"{data}-{order}", "seed": SEED, "models": named, "data": settings, "split": ties}
    folder = RunFolder(KEPT / f"{data}-{order}")
    file = KEPT / f"{data}-{order}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(tomli_w.dumps(experiment))
    _stage("prepare", file, folder, named)
    costs = {name: _answered(name, file, folder) for name in named}
    _stage("evaluate", file, folder, named)
    return rows_of(folder, data, order, costs)


def _answered(name: str, file: Path, folder: RunFolder) -> dict[str, Any]:
    """One model's answers, by a process of its own; what that took is kept beside the run. Where an
    interruption left answers without it, they are made again: skipping them would be measured instead."""
    path = KEPT / "costs" / f"{file.stem}.{name}.json"
    if not path.exists():
        (folder.path / "stages" / f"recommend.{name}.json").unlink(missing_ok=True)
    costs = _stage("recommend", file, folder, [name])
    if costs.pop("skipped"):
        return json.loads(path.read_text())
    path.parent.mkdir(exist_ok=True)
    write_json(path, costs)
    print(file.stem, name, costs, flush=True)
    return costs


def _stage(stage: str, file: Path, folder: RunFolder, models: Sequence[str]) -> dict[str, Any]:
    """Run a stage as a user does, and measure the process."""
    source = os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "shelftalk", stage, str(file), "--out", str(folder.path), "--json"]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--models", ",".join(models)],
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed; its message is above.")
    return {
        "wall seconds": round(time.perf_counter() - start, 1),
        "processor seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak memory GB": round(usage.ru_maxrss * 1024 / 1e9, 2),
        "skipped": all(done["skipped"] for done in json.loads(output)["stages"]),
    }


def rows_of(
    folder: RunFolder, data: str, order: str, costs: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """From the run's files, the tasks and models in their order."""
    metrics = json.loads(folder.metrics.read_text())
    differences = pl.read_parquet(folder.evaluation("differences"))
    rows = []
    for task, reference in REFERENCE.items():
        for name in [name for name in costs if name in metrics.get(task, {})]:
            row = {"data": data, "ties": order, "task": task, "model": name, **metrics[task][name]}
            row |= {f"{metric} interval": ends for metric, ends in metrics[task][f"{name}.ci"].items()}
            for pair in _against(differences, task, name, reference):
                row[f"{pair['metric']} minus {reference}"] = pair["value"]
                row[f"{pair['metric']} minus {reference} interval"] = [pair["low"], pair["high"]]
                row[f"{pair['metric']} minus {reference} p"] = pair["p"]
            chosen = folder.needed(f"recommend.{name}").facts.get("chosen", [])
            rows.append({**row, "chosen": chosen, **costs[name]})
    return rows


def _against(differences: pl.DataFrame, task: str, name: str, reference: str) -> list[dict[str, Any]]:
    """The paired differences of the model from the reference, which stands after it in the run."""
    chosen = (pl.col("task") == task) & (pl.col("first") == name) & (pl.col("second") == reference)
    return differences.filter(chosen).to_dicts()


def claims_of(runs: Sequence[dict[str, Any]]) -> list[Claim]:
    """Of what was measured; nothing is claimed of a model that the package has not."""
    by_name = {(run["data"], run["task"], run["model"]): run for run in runs if run["ties"] == "published"}
    beauty = {
        name: run for (data, task, name), run in by_name.items() if (data, task) == ("beauty", "retrieval")
    }
    claims = []
    if "sasrec" in beauty:
        claims.append(_reaches(CLAIMS[0], beauty["sasrec"], 0.080, 0.045))
    if beauty:
        linear = [beauty[name] for name in ("slist", "tale")]
        best = max(linear, key=lambda run: (_enough(run, 0.086, 0.053), -run["processor seconds"]))
        seconds = best["processor seconds"]
        claims += [
            _reaches(CLAIMS[1], best, 0.086, 0.053),
            Claim(CLAIMS[2], seconds, "<= 180 processor seconds", seconds <= 180),
        ]
        recall = round(beauty["item_knn"]["recall@10"], 4)
        claims.append(Claim(CLAIMS[3], recall, ".0904 to .0964", abs(recall - 0.0934) <= 0.003))
    rating = {name: round(run["rmse"], 4) for (_, task, name), run in by_name.items() if task == "rating"}
    factors, bias = rating["matrix_factorisation"], rating["bias"]
    claims += [
        Claim(CLAIMS[4], factors, "<= .871", factors <= 0.871),
        Claim(CLAIMS[5], bias, ".874 to .876", abs(bias - 0.875) <= 0.001),
    ]
    for claim, data in ((CLAIMS[6], "beauty"), (CLAIMS[7], "movielens-small")):
        names = {name for measured, _, name in by_name if measured == data}
        if names:
            claims.append(Claim(claim, len(names), ">= 10", len(names) >= 10))
    return claims


def _enough(run: dict[str, Any], recall: float, ndcg: float) -> bool:
    return run["recall@10"] >= recall and run["ndcg@10"] >= ndcg


def _reaches(claim: str, run: dict[str, Any], recall: float, ndcg: float) -> Claim:
    value = f"{run['model']}: {run['recall@10']:.4f}, {run['ndcg@10']:.4f}"
    return Claim(claim, value, f">= {recall:.3f}, >= {ndcg:.3f}", _enough(run, recall, ndcg))
