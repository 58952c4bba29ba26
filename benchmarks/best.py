"""experiments/best.toml as a user runs it, on Beauty and the bundled MovieLens, three seeds each, beside the
baselines that it has to be ahead of; and Beauty once more with the order of ties shuffled.

Beauty is measured where it is at hand (see benchmarks/item_knn.py). Runs are kept in runs/benchmarks/best, so
that an interrupted measurement continues; remove that folder to measure all of it again. A seed of Beauty
takes about an hour of two cores: SHELFTALK_BEST_SEEDS=0 measures the first alone, without shuffled ties, and
every row of the result says how many seeds it is of.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._recipe import files, run_recipe, user_table
from benchmarks.baselines import BUNDLED
from benchmarks.harness import Claim, Result, data_hash
from benchmarks.item_knn import BEAUTY
from shelftalk.evaluation.multiple_testing import holm
from shelftalk.pipeline.run import Run
from shelftalk.recommender import ALIGNED, ALIGNED_WITH_PRIOR, TaskName
from shelftalk.studies.comparing.statistics import Paired, figure, paired

KEPT = Path("runs/benchmarks/best")
SEEDS = tuple(int(seed) for seed in os.environ.get("SHELFTALK_BEST_SEEDS", "0,1,2").split(","))
P = 0.01
"""Adjusted for the number of rivals (Holm)."""
SINGLE = ("item_knn", "slist", "tale", "sasrec")
FUSION = "fusion"
RATERS = ("bias", "matrix_factorisation", "svd_plus_plus")
METRICS: dict[TaskName, tuple[str, ...]] = {
    "retrieval": ("recall@10", "ndcg@10"),
    "ranking": ("hr@1", "ndcg@10"),
    "rating": ("rmse",),
}
CLAIMS = [
    "Beauty: aligned alone is ahead of item_knn, slist, tale and sasrec on Recall@10 and NDCG@10, paired, "
    "every p below .01",
    "Beauty: aligned+prior is ahead of item_knn by 15 % or more on Recall@10 and on NDCG@10",
    "Beauty: aligned+prior is ahead of the best single baseline and of the best fusion of two baselines on "
    "both, paired, every p below .01",
    "Beauty: aligned+prior has a ranking HR@1 of .26 and NDCG@10 of .40 or more (1 + 99)",
    "MovieLens: aligned+prior has an RMSE of .845 or less, and less than every rating baseline",
    "Beauty with ties shuffled: the models stand in the same order by NDCG@10",
    "Beauty: writing the samples and training take an hour or less",
]


def main(quick: bool) -> Result:
    """--quick: MovieLens alone, one seed, two epochs, without what takes minutes to fit."""
    data = {"movielens-small": BUNDLED}
    if quick:
        runs = {
            "movielens-small": [
                run_recipe(KEPT, "quick", 0, {"training": {"epochs": 2, "validations": 2}}, None)
            ]
        }
        return Result(0, _claims(runs, None), _rows(runs), {"movielens-small": data_hash(files(BUNDLED))})
    runs = {
        "movielens-small": [run_recipe(KEPT, "movielens-small", seed, {}, None, *RATERS) for seed in SEEDS]
    }
    shuffled = None
    if BEAUTY.is_dir():
        data["beauty"] = BEAUTY
        runs["beauty"] = [run_recipe(KEPT, "beauty", seed, {}, BEAUTY, *SINGLE) for seed in SEEDS]
        if len(SEEDS) > 1:
            shuffled = run_recipe(
                KEPT, "beauty-shuffled", 0, {"split": {"ties": "shuffled"}}, BEAUTY, *SINGLE
            )
    else:
        print("Beauty is not on this machine (name its folder in SHELFTALK_BEAUTY) and is left out.")
    rows = _rows({**runs, **({"beauty, ties shuffled": [shuffled]} if shuffled else {})})
    hashes = {name: data_hash(files(at)) for name, at in data.items()}
    return Result(0, _claims(runs, shuffled), rows, hashes)


def _models(run: Run, task: str) -> list[str]:
    return [name for name in run.experiment.models if name in run.metrics.get(task, {})]


def _leads(
    runs: Sequence[Run], task: TaskName, metric: str, first: str, rivals: Sequence[str]
) -> dict[str, Paired]:
    """First minus each rival, seed by seed."""
    tables = {name: [user_table(run, task, name) for run in runs] for name in (first, *rivals)}
    return {name: paired(tables[first], tables[name], task, metric) for name in rivals}


def _rows(data: Mapping[str, Sequence[Run]]) -> list[dict[str, Any]]:
    """A row per data set, task and model: each metric over the seeds, what was chosen, and costs."""
    rows = []
    for name, runs in data.items():
        for task, metrics in METRICS.items():
            for model in _models(runs[0], task):
                row: dict[str, Any] = {"data": name, "task": task, "model": model, "seeds": len(runs)}
                for metric in metrics:
                    row |= _over_seeds(runs, task, model, metric)
                record = runs[0].folder.needed(f"recommend.{model}")
                row |= {"chosen": record.facts.get("chosen", []), "seconds": round(record.seconds, 1)}
                rows.append(row)
        for run in runs:
            seconds = {stage: round(run.folder.needed(stage).seconds, 1) for stage in ("write", "train")}
            rows.append({"data": name, "seed": run.experiment.seed, "seconds of stages": seconds})
    return rows


def _over_seeds(runs: Sequence[Run], task: TaskName, model: str, metric: str) -> dict[str, Any]:
    """A metric's mean over the seeds, each of them, the interval of a single one, and the lead of
    `aligned+prior`."""
    of_model = [run.metrics[task] for run in runs]
    value = figure([one[model][metric] for one in of_model], of_model[0][f"{model}.ci"][metric])
    row: dict[str, Any] = {metric: value.mean, f"{metric} of each seed": list(value.per_seed)}
    row[f"{metric} interval"] = [value.low, value.high]
    if model != ALIGNED_WITH_PRIOR and ALIGNED_WITH_PRIOR in _models(runs[0], task):
        lead = _leads(runs, task, metric, ALIGNED_WITH_PRIOR, [model])[model]
        row[f"aligned+prior minus it, {metric}"] = [lead.value, lead.low, lead.high, lead.p]
    return row


def _claims(data: Mapping[str, Sequence[Run]], shuffled: Run | None) -> list[Claim]:
    claims = []
    if runs := data.get("beauty"):
        rivals = [name for name in (*SINGLE, FUSION) if name in _models(runs[0], "retrieval")]
        both = METRICS["retrieval"]
        leads = {m: _leads(runs, "retrieval", m, ALIGNED, [r for r in rivals if r != FUSION]) for m in both}
        claims.append(_ahead(CLAIMS[0], leads))
        means = {
            m: [_mean(runs, "retrieval", name, m) for name in (ALIGNED_WITH_PRIOR, "item_knn")] for m in both
        }
        shares = {m: ours / theirs - 1 for m, (ours, theirs) in means.items()}
        told = ", ".join(f"{m} {100 * share:+.1f} %" for m, share in shares.items())
        claims.append(Claim(CLAIMS[1], told, ">= +15 % both", min(shares.values()) >= 0.15))
        leads = {m: _leads(runs, "retrieval", m, ALIGNED_WITH_PRIOR, rivals) for m in both}
        claims.append(_ahead(CLAIMS[2], leads))
        hr, ndcg = (_mean(runs, "ranking", ALIGNED_WITH_PRIOR, m) for m in METRICS["ranking"])
        claims.append(
            Claim(CLAIMS[3], f"{hr:.4f}, {ndcg:.4f}", ">= .26, >= .40", hr >= 0.26 and ndcg >= 0.40)
        )
        seconds = max(sum(run.folder.needed(s).seconds for s in ("write", "train")) for run in runs)
        claims.append(Claim(CLAIMS[6], f"{seconds / 60:.0f} minutes", "<= 60 minutes", seconds <= 3600))
        if shuffled:
            orders = [_order(run) for run in (runs[0], shuffled)]
            claims.append(
                Claim(CLAIMS[5], " > ".join(orders[1]), " > ".join(orders[0]), orders[0] == orders[1])
            )
    rated = data["movielens-small"]
    rmse = {name: _mean(rated, "rating", name, "rmse") for name in _models(rated[0], "rating")}
    ours, others = rmse[ALIGNED_WITH_PRIOR], [rmse[name] for name in RATERS if name in rmse]
    told = f"{ours:.4f}, the best other {min(others):.4f}"
    claims.append(Claim(CLAIMS[4], told, "<= .845 and lowest", ours <= 0.845 and ours < min(others)))
    return claims


def _mean(runs: Sequence[Run], task: str, model: str, metric: str) -> float:
    return sum(run.metrics[task][model][metric] for run in runs) / len(runs)


def _order(run: Run) -> list[str]:
    """Models by NDCG@10, best first."""
    quality = {name: run.metrics["retrieval"][name]["ndcg@10"] for name in _models(run, "retrieval")}
    return sorted(quality, key=lambda name: -quality[name])


def _ahead(claim: str, leads: Mapping[str, Mapping[str, Paired]]) -> Claim:
    """Whether every difference is above 0 with a p below P after Holm's adjustment within its metric."""
    told, holds = [], True
    for metric, gaps in leads.items():
        p = dict(zip(gaps, holm([one.p for one in gaps.values()]), strict=True))
        holds &= all(one.value > 0 and p[name] < P for name, one in gaps.items())
        closest = min(gaps, key=lambda name: gaps[name].value)
        told.append(
            f"{metric}: the least is {gaps[closest].value:+.4f} to {closest}, p {max(p.values()):.3g}"
        )
    return Claim(claim, "; ".join(told), "> 0, p < .01", holds)
