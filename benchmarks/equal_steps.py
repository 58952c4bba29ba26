"""Is it the auxiliary tasks, or the steps that they bring? The arm "+ all three" of benchmarks/alignment.py
on the bundled MovieLens, and its retrieval samples alone for three times the epochs: as many steps.

Paired on the test part over the seeds; weights are those of the best validation. Runs are kept with those of
`alignment`. SHELFTALK_EQUAL_STEPS_SEEDS=0 measures one seed.
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks import alignment
from benchmarks._recipe import files
from benchmarks.alignment import ALONE, ARMS, EPOCHS, METRICS
from benchmarks.baselines import BUNDLED
from benchmarks.harness import Claim, Result, data_hash
from shelftalk.experiment import laid_over
from shelftalk.pipeline.run import Run

SEEDS = tuple(int(seed) for seed in os.environ.get("SHELFTALK_EQUAL_STEPS_SEEDS", "0,1,2").split(","))
TASKS = "+ all three"
LONGER = "retrieval alone, three times the epochs"
DATA = "movielens-small"
CLAIMS = [
    "The three auxiliary tasks give a higher NDCG@10 in retrieval than as many steps of retrieval alone, "
    "paired, p below .05",
    "Both trainings were done: the best validation is not the last one",
]


def main(quick: bool) -> Result:
    """--quick: one seed, two epochs against six."""
    times = 2 if quick else EPOCHS
    arms = {
        TASKS: laid_over(ARMS[TASKS], {"training": {"epochs": times}}),
        LONGER: laid_over(ARMS[ALONE], {"training": {"epochs": 3 * times}}),
    }
    name = "quick " if quick else f"{DATA} "
    runs = {
        arm: [alignment.arm_run(name + arm, seed, changes, None) for seed in (SEEDS[:1] if quick else SEEDS)]
        for arm, changes in arms.items()
    }
    rows = alignment.rows_against(DATA, runs, LONGER)
    claims = [] if quick else _claims(runs, rows)
    return Result(SEEDS[0], claims, rows, {DATA: data_hash(files(BUNDLED))})


def _claims(runs: dict[str, list[Run]], rows: list[dict[str, Any]]) -> list[Claim]:
    lead = alignment.lead_of(runs[TASKS], runs[LONGER], "retrieval", METRICS["retrieval"][1])
    told = f"{lead.value:+.4f} [{lead.low:.4f}, {lead.high:.4f}], p {lead.p:.3g}, {len(SEEDS)} seeds"
    costs = [row for row in rows if "steps" in row]
    done = all(
        best < last for row in costs for best, last in zip(row["best step"], row["steps"], strict=True)
    )
    steps = "; ".join(f"{row['arm']}: {row['best step']} of {row['steps']}" for row in costs)
    return [
        Claim(CLAIMS[0], told, "> 0, p < .05", lead.value > 0 and lead.p < 0.05),
        Claim(CLAIMS[1], steps, "every best step before the last", done),
    ]
