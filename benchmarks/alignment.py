"""Do auxiliary tasks help once a model is trained until it is done? The recipe of experiments/best.toml with
its served retrieval samples alone, and the same with what the paper adds (masked items, masked language,
pairwise preference), with what counting knows (in words, and as soft targets), all of it at once, and all of
it first and the served task last.

Every arm reads the same number of epochs of the retrieval samples, an auxiliary task comes on top: gains
stand beside what they cost. Its weights are those of the best validation (NDCG@10 of 3,000 validation users);
whether that was the last one, so that the arm may not have been done, is told. The tasks have their default
weights, all names alone but for masked language, which is about texts.

Arms are compared on the test part, paired, over the seeds that were run; nothing was chosen by it. Runs are
kept in runs/benchmarks/alignment, so that an interrupted measurement continues. SHELFTALK_ALIGNMENT_SEEDS=0
measures one seed, SHELFTALK_ALIGNMENT_DATA=movielens-small one data set; the result says of how many seeds
each row is.
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
from shelftalk.experiment import laid_over
from shelftalk.pipeline.run import Run
from shelftalk.recommender import ALIGNED, TaskName
from shelftalk.studies.comparing.statistics import Paired, paired

KEPT = Path("runs/benchmarks/alignment")
SEEDS = tuple(int(seed) for seed in os.environ.get("SHELFTALK_ALIGNMENT_SEEDS", "0,1,2").split(","))
DATA = tuple(os.environ.get("SHELFTALK_ALIGNMENT_DATA", "movielens-small,beauty").split(","))
EPOCHS = 20
SERVED_LAST = 10
"""The epochs, from the first, in which auxiliary tasks are trained where the served task comes last."""
RETRIEVAL_ALONE: dict[str, Any] = {
    "models": [ALIGNED, "item_knn"],
    "teacher": {"model": ""},
    "training": {"epochs": EPOCHS, "judged_by": ["retrieval"]},
    "tasks": {"rating": {"weight": 0.0}},
}
MASKED_ITEMS = {"masked_items": {"weight": 0.5, "text_share": 0.0}}
MASKED_LANGUAGE = {"masked_language": {"weight": 0.1}}
PREFERENCE = {"pairwise_preference": {"weight": 0.25, "text_share": 0.0}}
IN_WORDS = {name: {"weight": 1.0} for name in ("next_items", "co_occurring_items", "similar_items")}
ALL = {**MASKED_ITEMS, **MASKED_LANGUAGE, **PREFERENCE}
FIRST = {name: {**task, "first_epochs": SERVED_LAST} for name, task in {**ALL, **IN_WORDS}.items()}
TEACHER = {"teacher": {"model": "fusion", "weight": 0.4}}
ARMS: dict[str, dict[str, Any]] = {
    "retrieval alone": {},
    "+ masked items": {"tasks": MASKED_ITEMS},
    "+ masked language": {"tasks": MASKED_LANGUAGE},
    "+ pairwise preference": {"tasks": PREFERENCE},
    "+ all three": {"tasks": ALL},
    "+ all three, retrieval last": {"tasks": {name: FIRST[name] for name in ALL}},
    "+ counts in words": {"tasks": IN_WORDS},
    "+ counts in words, retrieval last": {"tasks": {name: FIRST[name] for name in IN_WORDS}},
    "+ counts as soft targets": TEACHER,
    "+ soft targets and all three, retrieval last": {**TEACHER, "tasks": {name: FIRST[name] for name in ALL}},
}
ALONE = next(iter(ARMS))
METRICS: dict[TaskName, tuple[str, ...]] = {
    "retrieval": ("recall@10", "ndcg@10"),
    "ranking": ("hr@1", "ndcg@10"),
}
P = 0.05
CLAIMS = [
    "The three auxiliary tasks of the paper together give a higher NDCG@10 in retrieval than its samples "
    "alone, paired, p below .05",
    "One of them alone does",
    "What counting knows, in words, does",
    "What counting knows, as soft targets, does",
]
PAPER = ("+ all three", "+ all three, retrieval last")
SINGLE = ("+ masked items", "+ masked language", "+ pairwise preference")
WORDS = ("+ counts in words", "+ counts in words, retrieval last")


def main(quick: bool) -> Result:
    """--quick: the bundled MovieLens, one seed, two epochs, three arms."""
    if quick:
        short = {"training": {"epochs": 2, "validations": 2}}
        few = {name: ARMS[name] for name in (ALONE, SINGLE[0], WORDS[0])}
        arms = {
            name: [arm_run(f"quick {name}", 0, laid_over(changes, short), None)]
            for name, changes in few.items()
        }
        return Result(
            0,
            [],
            rows_against("movielens-small", arms, ALONE),
            {"movielens-small": data_hash(files(BUNDLED))},
        )
    rows, claims, hashes = [], [], {}
    for data, folder in {"movielens-small": None, "beauty": BEAUTY}.items():
        if data not in DATA or (folder is not None and not folder.is_dir()):
            print(f"{data} is left out: it was not asked for, or is not on this machine.")
            continue
        arms = {
            name: [arm_run(f"{data} {name}", seed, ARMS[name], folder) for seed in SEEDS] for name in ARMS
        }
        rows += rows_against(data, arms, ALONE)
        claims += _claims(data, arms)
        hashes[data] = data_hash(files(folder or BUNDLED))
    return Result(SEEDS[0], claims, rows, hashes)


def arm_run(name: str, seed: int, changes: Mapping[str, Any], folder: Path | None) -> Run:
    """The run of an arm: the recipe's retrieval samples, and what the arm changes."""
    plain = "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())
    return run_recipe(KEPT, plain, seed, laid_over(RETRIEVAL_ALONE, changes), folder)


def rows_against(data: str, arms: Mapping[str, Sequence[Run]], reference: str) -> list[dict[str, Any]]:
    """A row for each arm and task: its metrics, its difference to the `reference` arm, and what it cost."""
    rows = []
    for task, metrics in METRICS.items():
        for name, runs in arms.items():
            row: dict[str, Any] = {"data": data, "task": task, "arm": name, "seeds": len(runs)}
            for metric in metrics:
                each = [run.metrics[task][ALIGNED][metric] for run in runs]
                row[metric] = round(sum(each) / len(each), 5)
                row[f"{metric} of each seed"] = [round(one, 5) for one in each]
                if name != reference:
                    lead = lead_of(runs, arms[reference], task, metric)
                    row[f"{metric} minus alone"] = round(lead.value, 5)
                    row[f"{metric} minus alone, interval"] = [round(lead.low, 5), round(lead.high, 5)]
                    row[f"{metric} minus alone, p"] = round(lead.p, 5)
            rows.append(row | (_costs(runs) if task == "retrieval" else {}))
    return rows


def lead_of(runs: Sequence[Run], others: Sequence[Run], task: TaskName, metric: str) -> Paired:
    """An arm minus another, seed by seed."""
    tables = ([user_table(run, task, ALIGNED) for run in of] for of in (runs, others))
    return paired(*tables, task, metric)


def _costs(runs: Sequence[Run]) -> dict[str, Any]:
    """Of the trainings of an arm: what they read and took, and at which step they were best."""
    facts = [run.folder.needed("train").facts for run in runs]
    best = [max(row["value"] for row in one["quality"] if row["metric"] == "ndcg@10") for one in facts]
    return {
        "validation ndcg@10": [round(value, 5) for value in best],
        "tokens": [one["tokens"] for one in facts],
        "steps": [one["steps"] for one in facts],
        "best step": [one["best_step"] for one in facts],
        "stopped early": [one["stopped_early"] for one in facts],
        "minutes of training": [round(run.folder.needed("train").seconds / 60, 1) for run in runs],
        "seconds of writing": [round(run.folder.needed("write").seconds, 1) for run in runs],
    }


def _claims(data: str, arms: Mapping[str, Sequence[Run]]) -> list[Claim]:
    """Every arm against retrieval alone by NDCG@10; p adjusted for the number of arms (Holm)."""
    leads = {name: lead_of(arms[name], arms[ALONE], "retrieval", "ndcg@10") for name in ARMS if name != ALONE}
    adjusted = dict(zip(leads, holm([one.p for one in leads.values()]), strict=True))
    groups = (PAPER, SINGLE, WORDS, ("+ counts as soft targets",))
    claims = []
    for claim, group in zip(CLAIMS, groups, strict=True):
        best = max(group, key=lambda name: leads[name].value)
        holds = any(leads[name].value > 0 and adjusted[name] < P for name in group)
        told = f"{data}, {best}: {leads[best].value:+.4f}, p {adjusted[best]:.3g}, {len(SEEDS)} seeds"
        claims.append(Claim(f"{claim} ({data})", told, "> 0, p < .05", holds))
    return claims
