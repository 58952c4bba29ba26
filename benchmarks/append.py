"""Newer data appended to a run: the model trained further on what is new, against all of it trained anew.

The bundled films, without what was watched in the last tenth of the interactions by time: a run learns from
these, the last tenth is appended, and its model is trained further on that alone. The other side trains a
model of all interactions from the start, with as many epochs as the first run had. Both answer the test part
of the same split. A third one has the old weights and names for the new films, and no further training.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks._nano import BUNDLED
from benchmarks.harness import Claim, Result, data_hash
from shelftalk.data.splitting import PARTS, Part
from shelftalk.evaluation.evaluator import evaluate_retrieval, summarise
from shelftalk.evaluation.metrics import LIST_LENGTH
from shelftalk.experiment import Experiment, load_experiment, saved_experiment
from shelftalk.pipeline import stages
from shelftalk.pipeline.continuation import append
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder

CLAIMS = [
    "A model trained further on the last tenth of the interactions reaches nine tenths of the NDCG@10 of one "
    "trained anew on all of them",
    "Samples and training of what is new take at most half the time of training anew",
    "Both runs have the same test part, to the byte",
]
SEED = 0
LAST = 0.1
SMALL = {"width": 64, "layers": 2, "heads": 2}
"""The nano model of --quick."""
SHARES = (1.0, 0.3, 0.1)
"""Learning rates of the further training, as shares of the first one's; the one that is the best on
validation is compared."""
OTHER_TASKS = ("ranking", "masked_items", "masked_language", "pairwise_preference", "rating")


def main(quick: bool) -> Result:
    """--quick trains a small model for 6 epochs of next-item samples; else the usual nano model for 12."""
    epochs = 6 if quick else 12
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        old_files, new_files, all_files = _divided(folder)
        old = _run(folder / "old", _experiment(old_files, epochs, quick))
        anew = _measured("trained anew", folder / "anew", _experiment(all_files, epochs, quick))
        rows = [anew]
        rate = _experiment(all_files, epochs, quick).training.learning_rate
        changes: dict[str, dict[str, Any]] = {
            f"trained further, {share:g} of the learning rate": {"learning_rate": rate * share}
            for share in SHARES
        } | {"not trained further": {"max_steps": 1, "learning_rate": 1e-12}}
        for name, training in changes.items():
            out = folder / f"run-{len(rows)}"
            start = time.perf_counter()
            append(old.path, *new_files, out, training)
            appended = time.perf_counter() - start
            rows.append(
                _measured(name, out, saved_experiment(RunFolder(out))) | {"append": round(appended, 2)}
            )
    tried = [row for row in rows if row["way"].startswith("trained further")]
    further = max(tried, key=lambda row: float(row["validation ndcg@10"]))
    quality = further["ndcg@10"] / anew["ndcg@10"]
    cost = (further["write"] + further["train"]) / (anew["write"] + anew["train"])
    same = len({row["split"] for row in rows}) == 1
    claims = [
        Claim(CLAIMS[0], round(quality, 3), ">= 0.9", quality >= 0.9),
        Claim(CLAIMS[1], round(cost, 3), "<= 0.5", cost <= 0.5),
        Claim(CLAIMS[2], "the same" if same else "another", "the same", same),
    ]
    return Result(SEED, claims, rows, {BUNDLED.name: data_hash(BUNDLED.glob("*.parquet"))})


def _divided(folder: Path) -> tuple[Path, tuple[Path, Path], Path]:
    """The folder of the earlier data, the files of the later, and the folder of all."""
    events, items = (pl.read_parquet(BUNDLED / f"{name}.parquet") for name in ("interactions", "items"))
    events = events.sort("timestamp", maintain_order=True)
    cut = int(len(events) * (1 - LAST))
    early = events[:cut]
    parts = {
        "early": (early, items.join(early, on="item_id", how="semi")),
        "late": (events[cut:], items.join(early, on="item_id", how="anti")),
        "all": (events, items),
    }
    for name, (interactions, catalogue) in parts.items():
        (folder / name).mkdir()
        interactions.write_parquet(folder / name / "interactions.parquet")
        catalogue.write_parquet(folder / name / "items.parquet")
    late = folder / "late"
    return folder / "early", (late / "interactions.parquet", late / "items.parquet"), folder / "all"


def _experiment(data: Path, epochs: int, small: bool) -> Experiment:
    return load_experiment(
        None,
        {
            "name": data.name,
            "seed": SEED,
            "models": ["aligned"],
            "data": {"folder": str(data)},
            "nano": SMALL if small else {},
            "tasks": {name: {"weight": 0.0} for name in OTHER_TASKS},
            "training": {"epochs": epochs, "trackers": [], "validation_samples": 100},
        },
    )


def _run(path: Path, experiment: Experiment) -> RunFolder:
    folder = RunFolder(path)
    stages.claim(folder, experiment)
    for stage in (stages.prepare, stages.index, stages.write, stages.train):
        stage(folder, experiment)
    return folder


def _measured(way: str, path: Path, experiment: Experiment) -> dict[str, Any]:
    """Seconds of each stage, and the quality of the lists of the test part."""
    folder = _run(path, experiment)
    run = Run(folder, experiment)
    quality = {part: _quality(run, part) for part in PARTS}
    records = {stage: folder.needed(stage) for stage in ("prepare", "index", "write", "train")}
    row = {
        "way": way,
        **{stage: round(record.seconds, 2) for stage, record in records.items()},
        "steps": records["train"].facts["steps"],
        "samples": sum(records["write"].facts["samples"].values()),
        "tokens": records["train"].facts["tokens"],
        "recall@10": round(quality["test"]["recall@10"], 4),
        "ndcg@10": round(quality["test"]["ndcg@10"], 4),
        "validation ndcg@10": round(quality["validation"]["ndcg@10"], 4),
        "items": len(run.split.dataset.items),
        "split": run.split.fingerprint(),
    }
    print(row, flush=True)
    return row


def _quality(run: Run, part: Part) -> dict[str, float]:
    requests, truths = run.split.retrieval_requests(part)
    lists = run.model("aligned").recommend(requests, LIST_LENGTH)
    return summarise(evaluate_retrieval(lists, requests, truths, run.split.dataset.item_ids), "retrieval")
