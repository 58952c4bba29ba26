"""Would a prior inside the search find other items than the pool does? `aligned+prior` combines the model and
its prior over the best items of either; a search whose every step weighs both would return the best of all
items by the combined score. Here all items are scored, so that the list of such a search is known, whatever
its beams, and the pool's is held against it, for every weight that validation may choose.

For names of several tokens: the bundled experiment with semantic codes, trained now, unless
SHELFTALK_BENCHMARK_RUN names a finished run. Of the validation part; the test part is not read.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import shelftalk
from benchmarks._lists import quality
from benchmarks._nano import bundled_hash
from benchmarks._served import RUN
from benchmarks.harness import Claim, Result
from shelftalk.decoding.prior import AlignedWithPrior
from shelftalk.experiment import load_experiment
from shelftalk.log_linear import log_scores
from shelftalk.pipeline.run import Run, open_run
from shelftalk.records import Request

LENGTH = 10
USERS, QUICK_USERS = 2_000, 100
SAME, LOST = 0.99, 0.0005
CLAIMS = [
    f"At every weight the pool's ten items are at least {100 * SAME:g} % of the ten best of all items",
    f"At every weight the pool's NDCG@10 is at most {LOST:g} below that of the ten best of all items",
]


def main(quick: bool) -> Result:
    """--quick: 100 users, and a training of one epoch."""
    given = os.environ.get(RUN)
    with tempfile.TemporaryDirectory() as scratch:
        run = open_run(given) if given else _trained(Path(scratch) / "run", quick)
        requests, truths = run.split.retrieval_requests("validation")
        number = QUICK_USERS if quick else USERS
        rows = _by_weight(run, requests[:number], truths[:number])
    same = min(row["same items"] for row in rows)
    lost = max(row["ndcg@10 of all items"] - row["ndcg@10 of the pool"] for row in rows)
    claims = [
        Claim(CLAIMS[0], round(same, 4), f">= {SAME:g}", same >= SAME),
        Claim(CLAIMS[1], round(lost, 5), f"<= {LOST:g}", lost <= LOST),
    ]
    return Result(run.experiment.seed, claims, rows, bundled_hash())


def _trained(out: Path, quick: bool) -> Run:
    changes = {"index": {"scheme": "semantic"}, "models": ["aligned", "aligned+prior"]}
    training = {"epochs": 1} if quick else {"epochs": 15}
    return shelftalk.run(load_experiment(None, {"extends": "best", **changes, "training": training}), out=out)


def _by_weight(run: Run, requests: Sequence[Request], truths: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each weight of the settings: the share of items that the two lists have in common, and the
    NDCG@10 of both. The first says what the scores of the pool and those of all items cost."""
    model = run.model("aligned+prior")
    assert isinstance(model, AlignedWithPrior)
    row_of, ids = model.model.row_of, model.model.index.item_ids
    free = [
        np.setdiff1d(np.arange(len(row_of)), [row_of[item] for item in request.history])
        for request in requests
    ]
    started = time.process_time()
    pools = [np.array(pool) for pool in model._pools(requests, LENGTH)]
    of_pools = model._log_probs(requests, [pool.tolist() for pool in pools], "retrieval")
    pooled = time.process_time() - started
    started = time.process_time()
    of_model = model.model.log_probs(requests, [rows.tolist() for rows in free])
    of_prior = log_scores(np.array(model.prior.scores(requests), np.float64))
    scored = time.process_time() - started
    rows: list[dict[str, Any]] = []
    for weight in model.settings.weights:
        lists = [
            _best(ids, pool, (1 - weight) * of_both[0] + weight * of_both[1])
            for pool, of_both in zip(pools, of_pools, strict=True)
        ]
        best = [
            _best(ids, some, (1 - weight) * of_model[number] + weight * of_prior[number, some])
            for number, some in enumerate(free)
        ]
        same = [len({*pool} & {*whole}) / LENGTH for pool, whole in zip(lists, best, strict=True)]
        row = {"weight of the prior": weight, "same items": float(np.mean(same))}
        for name, found in (("the pool", lists), ("all items", best)):
            row[f"ndcg@10 of {name}"] = quality(found, truths, LENGTH)[f"ndcg@{LENGTH}"]
        rows.append(row)
    seconds = {"pool": pooled / len(requests), "all items": scored / len(requests)}
    rows[0] |= {"requests": len(requests), "processor seconds a request": seconds}
    return rows


def _best(ids: Sequence[str], rows: np.ndarray, scores: np.ndarray) -> list[str]:
    """The items of the highest scores, best first; of equal ones the first of the catalogue."""
    return [ids[row] for row in rows[np.lexsort((rows, -scores))[:LENGTH]].tolist()]
