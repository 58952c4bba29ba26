"""What the order within a day gives on Amazon 2014 Beauty: the same users in the published order of ties and
in orders drawn by seed, model by model, and what the data itself gives away.

Times there are whole days. A study found 43.5 % of the users to have their last two interactions on one day,
and the later one to have the higher item number in all of 9,719 such pairs. Guessing "last + 1 ... last + 10"
in the published numbering scores Recall@10 .0308 without learning. Each model is fitted anew in each order,
and chooses on the validation part of that order. Differences are paired by user: published minus the mean
over the shuffled orders.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import polars as pl

from benchmarks._beauty import needs_beauty
from benchmarks.harness import Claim, Result, data_hash
from benchmarks.item_knn import BEAUTY, PUBLISHED
from shelftalk import parts, seeds
from shelftalk.data.dataset import Dataset
from shelftalk.data.probes import Probe, probe_data
from shelftalk.data.sources import DataSettings, catalogue_order, read_dataset
from shelftalk.data.splitting import Split, SplitSettings, split_dataset
from shelftalk.evaluation.evaluator import evaluate_retrieval
from shelftalk.evaluation.metrics import LIST_LENGTH
from shelftalk.evaluation.resampling import bootstrap_weights
from shelftalk.experiment import Experiment

CLAIMS = [
    "Of the test items on the day of the item before them, the later one has the higher item id in all 9,719 "
    "pairs, of 43.5 % of the users",
    "Guessing the ten items after a history's last one in the published numbering finds .0308 of the test "
    "items without learning, and clearly more than the ten before it",
    "With ties shuffled by seed an order of ids is no help: the ten ids after the last one find no more test "
    "items than the ten before it, beyond chance",
    "item_knn has a lower Recall@10 where ties are shuffled than in the published order, the 95 % interval "
    "of the paired difference excluding 0",
]
MODELS = ("popularity", "item_knn", "transition_graph", "slist", "tale", "sasrec")
"""Those of them that parts.MODELS has are compared."""
COSTLY = ("sasrec",)
"""Fitted in one shuffled order alone; the others in SHUFFLES of them."""
SHUFFLES = 5
METRICS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")
RESAMPLES = 2000
SEED = 0


def main(quick: bool) -> Result:
    """With --quick one shuffled order and the models that fit in a minute."""
    needs_beauty()
    settings = DataSettings(folder=str(BEAUTY), **PUBLISHED)  # type: ignore[arg-type]
    dataset, _ = read_dataset(settings, SEED)
    order, shuffles = catalogue_order(settings), 1 if quick else SHUFFLES
    splits = {"published": _split(dataset, "published", SEED)}
    splits |= {f"shuffled {seed}": _split(dataset, "shuffled", seed) for seed in range(shuffles)}
    probes = {name: probe_data(split, order) for name, split in splits.items()}
    runs = [_probed(name, probe) for name, probed in probes.items() for probe in probed]
    runs += [_targets(name, split) for name, split in splits.items()]
    differences: dict[str, dict[str, Any]] = {}
    for model in _models(quick):
        compared = [name for name in splits if model not in COSTLY or name in ("published", "shuffled 0")]
        tables = {name: _measured(model, splits[name], runs, name) for name in compared}
        differences[model] = _difference(model, tables)
        runs.append(differences[model])
        print(f"{model}: {differences[model]}", flush=True)
    claims = _claims(probes, differences["item_knn"])
    return Result(SEED, claims, runs, {"beauty": data_hash(BEAUTY.glob("*.parquet"))})


def _split(dataset: Dataset, ties: str, seed: int) -> Split:
    return split_dataset(dataset, SplitSettings(ties=ties), seed)  # type: ignore[arg-type]


def _models(quick: bool) -> list[str]:
    return [name for name in MODELS if name in parts.MODELS and not (quick and name in COSTLY)]


def _measured(model: str, split: Split, runs: list[dict[str, Any]], order: str) -> pl.DataFrame:
    """A row per user of the test part: whether its last two items are of one day, and METRICS. The mean goes
    into `runs`."""
    start = time.perf_counter()
    experiment = Experiment()
    fit = parts.load(parts.MODELS, model, "model")
    fitted = fit(split, experiment.settings_of(model), SEED)
    requests, truths = split.retrieval_requests("test")
    answers = fitted.recommend(requests, LIST_LENGTH)
    table = evaluate_retrieval(answers, requests, truths, split.dataset.item_ids)
    tied = split.dataset.seconds_since_previous[split.held_out_events("test")] == 0
    table = table.select("user", *METRICS).with_columns(tied=pl.Series(tied)).sort("user")
    means = {metric: round(float(table[metric].mean()), 5) for metric in METRICS}  # type: ignore[arg-type]
    seconds = round(time.perf_counter() - start, 1)
    runs.append({"model": model, "order": order, "users": len(table), "seconds": seconds, **means})
    print(runs[-1], flush=True)
    return table


def _difference(model: str, tables: dict[str, pl.DataFrame]) -> dict[str, Any]:
    """Published minus the mean over the shuffled orders, over all users and over those with a tie, with 95 %
    bootstrap intervals over users."""
    published, *shuffled = tables.values()
    assert all(table["user"].equals(published["user"]) for table in shuffled)
    values: dict[str, Any] = {"model": model, "order": "published minus shuffled", "shuffles": len(shuffled)}
    groups = {"": np.ones(len(published), bool), "tied users: ": published["tied"].to_numpy()}
    for metric in METRICS:
        mean = np.mean([table[metric].to_numpy() for table in shuffled], axis=0)
        gap = published[metric].to_numpy() - mean  # [U]
        for group, inside in groups.items():
            values[f"{group}{metric}"] = round(float(gap[inside].mean()), 5)
            values[f"{group}{metric} interval"] = _interval(gap[inside])
    spread = [float(table["recall@10"].mean()) for table in shuffled]  # type: ignore[arg-type]
    return values | {"shuffled recall@10, least and most": [round(min(spread), 5), round(max(spread), 5)]}


def _interval(gap: np.ndarray) -> list[float]:
    rng = seeds.generator(SEED, "ties")
    resampled = np.concatenate(
        [weights @ gap / len(gap) for weights in bootstrap_weights(len(gap), RESAMPLES, rng)]
    )
    return [round(float(end), 5) for end in np.percentile(resampled, [2.5, 97.5])]


def _targets(order: str, split: Split) -> dict[str, Any]:
    """How often the test items were taken in training: what an order puts last."""
    events = split.held_out_events("test")
    tied = split.dataset.seconds_since_previous[events] == 0
    taken = split.popularity[split.dataset.event_item[events]]
    return {
        "order": order,
        "training events of a tied test item": round(float(taken[tied].mean()), 1),
        "training events of another test item": round(float(taken[~tied].mean()), 1),
    }


def _probed(order: str, probe: Probe) -> dict[str, Any]:
    return {
        "probe": probe.name, "order": order, "value": probe.value, "interval": [probe.low, probe.high],
        "n": probe.n, "expected": probe.expected, "p": probe.p, "sentence": probe.sentence,
    }  # fmt: skip


def _claims(probes: dict[str, list[Probe]], item_knn: dict[str, Any]) -> list[Claim]:
    published, shuffled = (
        {probe.name: probe for probe in probes[name]} for name in ("published", "shuffled 0")
    )
    tied, higher = (published[name] for name in ("test item at the time of the one before",
                                                 "tied test item is the higher one: id order"))  # fmt: skip
    guess = published["order-coded items: catalogue file order"]
    by_id = shuffled["order-coded items: id order"]
    counted = (
        f"{round(higher.value * higher.n):,} of {higher.n:,} pairs, {tied.value:.1%} of {tied.n:,} users"
    )
    return [
        Claim(CLAIMS[0], counted, "9,719 of 9,719 pairs", higher.n == 9719 and higher.value == 1.0),
        Claim(
            CLAIMS[1], round(guess.value, 4), ".0308 within .0005",
            abs(guess.value - 0.0308) <= 0.0005 and guess.p < 0.001,
        ),
        Claim(CLAIMS[2], round(by_id.p, 3), "p > .05", by_id.p > 0.05),
        Claim(
            CLAIMS[3], item_knn["recall@10"], f"interval above 0, here {item_knn['recall@10 interval']}",
            item_knn["recall@10 interval"][0] > 0,
        ),
    ]  # fmt: skip
