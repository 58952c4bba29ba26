"""What the recommender's knowledge gives as a training signal, for names of several tokens: the recipe of
experiments/best.toml with semantic codes, its retrieval samples alone, and beside them what counting knows in
words, as soft targets, the loss over the item trie alone, and the last two together.

Every arm reads the same retrieval samples for the same number of epochs, and has the weights of its best
validation (NDCG@10 of all validation users); "in words" reads its own samples in the first half as well.
Arms are compared on the test part, paired, over the seeds that were run, alone and with the prior (the fusion
of item_knn and slist), for all items and for those that few users took; nothing was chosen by it.

Runs are kept in runs/benchmarks/knowledge. SHELFTALK_KNOWLEDGE_SEEDS=0 measures one seed; the result says of
how many seeds each row is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._recipe import files, run_recipe, user_table
from benchmarks.baselines import BUNDLED
from benchmarks.harness import Claim, Result, data_hash
from shelftalk.evaluation.multiple_testing import holm
from shelftalk.evaluation.slices import slice_metrics
from shelftalk.experiment import laid_over
from shelftalk.pipeline.run import Run
from shelftalk.recommender import ALIGNED, ALIGNED_WITH_PRIOR
from shelftalk.studies.comparing.statistics import paired

KEPT = Path("runs/benchmarks/knowledge")
SEEDS = tuple(int(seed) for seed in os.environ.get("SHELFTALK_KNOWLEDGE_SEEDS", "0,1,2").split(","))
EPOCHS = 15
SERVED_LAST = 8
RETRIEVAL_ALONE: dict[str, Any] = {
    "models": [ALIGNED, ALIGNED_WITH_PRIOR, "fusion", "item_knn"],
    "index": {"scheme": "semantic"},
    "teacher": {"model": ""},
    "training": {"epochs": EPOCHS, "judged_by": ["retrieval"]},
    "tasks": {"rating": {"weight": 0.0}},
    "decoding": {"softmax": "vocabulary"},
}
WORDS = {
    "tasks": {
        name: {"weight": 0.5, "first_epochs": SERVED_LAST}
        for name in ("next_items", "co_occurring_items", "similar_items")
    }
}
SOFT_TARGETS = {"teacher": {"model": "fusion", "weight": 0.4}}
OVER_TRIE = {"decoding": {"softmax": "trie"}}
ARMS: dict[str, dict[str, Any]] = {
    "retrieval alone": {},
    "+ softmax over the trie": OVER_TRIE,
    "+ in words, retrieval last": WORDS,
    "+ soft targets": SOFT_TARGETS,
    "+ soft targets, softmax over the trie": {**SOFT_TARGETS, **OVER_TRIE},
}
ALONE = next(iter(ARMS))
MODELS = (ALIGNED, ALIGNED_WITH_PRIOR)
METRICS = ("recall@10", "ndcg@10")
P = 0.05
CLAIM_OF = {
    "+ softmax over the trie": "The loss over the trie alone gives aligned a higher NDCG@10 than the loss "
    "over the vocabulary",
    "+ in words, retrieval last": "What counting knows, in words, does",
    "+ soft targets": "What counting knows, as soft targets, does",
    "+ soft targets, softmax over the trie": "Soft targets with the loss over the trie do",
}
CLAIMS = list(CLAIM_OF.values())


def main(quick: bool) -> Result:
    """--quick: one seed, two epochs, three arms."""
    names = [ALONE, "+ softmax over the trie", "+ soft targets"] if quick else list(ARMS)
    seeds = (0,) if quick else SEEDS
    short = {"training": {"epochs": 2, "validations": 2}} if quick else {}
    arms = {name: [_arm(name, seed, laid_over(ARMS[name], short), quick) for seed in seeds] for name in names}
    claims = [] if quick else _claims(arms)
    return Result(seeds[0], claims, _rows(arms), {"movielens-small": data_hash(files(BUNDLED))})


def _arm(name: str, seed: int, changes: Mapping[str, Any], quick: bool) -> Run:
    plain = "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())
    changes = laid_over(RETRIEVAL_ALONE, changes)
    return run_recipe(KEPT, f"quick-{plain}" if quick else plain, seed, changes, None)


def _rows(arms: Mapping[str, Sequence[Run]]) -> list[dict[str, Any]]:
    """A row for each arm and model: its metrics over the seeds, its difference to retrieval alone, its
    NDCG@10 on items that many, some, few or no training users took, and what the training cost."""
    rows = []
    for name, runs in arms.items():
        for model in MODELS:
            row: dict[str, Any] = {"arm": name, "model": model, "seeds": len(runs)}
            tables = [user_table(run, "retrieval", model) for run in runs]
            for metric in METRICS:
                each = [run.metrics["retrieval"][model][metric] for run in runs]
                row[metric] = round(sum(each) / len(each), 5)
                row[f"{metric} of each seed"] = [round(one, 5) for one in each]
                if name != ALONE:
                    alone = [user_table(run, "retrieval", model) for run in arms[ALONE]]
                    lead = paired(tables, alone, "retrieval", metric)
                    row[f"{metric} minus alone"] = [
                        round(v, 5) for v in (lead.value, lead.low, lead.high, lead.p)
                    ]
            row["ndcg@10 by popularity of the item"] = _by_popularity(runs[0], model)
            rows.append(row | (_costs(runs) if model == ALIGNED else {}))
    for model in ("fusion", "item_knn"):
        each = [run.metrics["retrieval"][model]["ndcg@10"] for run in arms[ALONE]]
        of_slices = _by_popularity(arms[ALONE][0], model)
        rows.append(
            {"model": model, "ndcg@10": sum(each) / len(each), "ndcg@10 by popularity of the item": of_slices}
        )
    return rows


def _by_popularity(run: Run, model: str) -> dict[str, list[float]]:
    """Slice -> [users, NDCG@10], of one run."""
    popularity = dict(zip(run.split.dataset.item_ids, run.split.popularity.tolist(), strict=True))
    table = slice_metrics(user_table(run, "retrieval", model), popularity, "retrieval")
    chosen = table.filter(table["slice_kind"] == table["slice_kind"][0])
    return {row["slice"]: [row["users"], round(row["ndcg@10"], 5)] for row in chosen.iter_rows(named=True)}


def _costs(runs: Sequence[Run]) -> dict[str, Any]:
    facts = [run.folder.needed("train").facts for run in runs]
    return {
        "validation ndcg@10": [
            round(max(row["value"] for row in one["quality"] if row["metric"] == "ndcg@10"), 5)
            for one in facts
        ],
        "tokens": [one["tokens"] for one in facts],
        "steps": [one["steps"] for one in facts],
        "best step": [one["best_step"] for one in facts],
        "minutes of training": [round(run.folder.needed("train").seconds / 60, 1) for run in runs],
    }


def _claims(arms: Mapping[str, Sequence[Run]]) -> list[Claim]:
    leads = {}
    for name in CLAIM_OF:
        tables = ([user_table(run, "retrieval", ALIGNED) for run in arms[of]] for of in (name, ALONE))
        leads[name] = paired(*tables, "retrieval", "ndcg@10")
    adjusted = dict(zip(leads, holm([one.p for one in leads.values()]), strict=True))
    return [
        Claim(
            claim,
            f"{leads[name].value:+.4f}, p {adjusted[name]:.3g}, {len(SEEDS)} seeds",
            "> 0, p < .05",
            leads[name].value > 0 and adjusted[name] < P,
        )
        for name, claim in CLAIM_OF.items()
    ]
