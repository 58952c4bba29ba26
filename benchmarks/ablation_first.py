"""A first ablation of the auxiliary tasks on the bundled data: all on, none, each one off, at equal tokens of both kinds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from benchmarks._nano import bundled_hash, encoded_epoch, figures, prepared, summary, trained
from benchmarks.harness import Claim, Result
from shelftalk.assemble import RunParts, new_backbone
from shelftalk.experiment import load_experiment
from shelftalk.models.backbone import Backbone, Encoded

CLAIMS = [
    "With one seed, every mixture saw the same number of target tokens and of context tokens, within 2 %",
    "Every training took at most 3 minutes",
    "All three auxiliary tasks together raise retrieval NDCG@10 against none of them (interval clear of zero)",
]
AUXILIARY = ("masked_items", "masked_language", "pairwise_preference")
SWITCHED_OFF: dict[str, tuple[str, ...]] = {
    "all on": (),
    "none": AUXILIARY,
    "without masked_items": ("masked_items",),
    "without masked_language": ("masked_language",),
    "without pairwise_preference": ("pairwise_preference",),
}
SEEDS = (0, 1, 2)
TOKENS = 1_000_000


def main(quick: bool) -> Result:
    seeds, tokens = (SEEDS[:1], TOKENS // 6) if quick else (SEEDS, TOKENS)
    runs = []
    for seed in seeds:
        targets = _fewest_targets(seed, tokens)
        for name, off in SWITCHED_OFF.items():
            runs.append(_measure(name, off, seed, tokens, targets))
            print(runs[-1], flush=True)
    return result(runs)


def result(runs: Sequence[dict[str, Any]]) -> Result:
    """The result file's content, from the runs alone."""
    differences = [difference(runs, name, metric) for name in list(SWITCHED_OFF)[1:] for metric in MEASURED]
    return Result(runs[0]["seed"], _claims(runs, differences), [*runs, *differences], bundled_hash())


MEASURED = ("retrieval recall@10", "retrieval ndcg@10", "ranking ndcg@10", "rating rmse")


def _settings(off: Sequence[str], seed: int) -> dict[str, Any]:
    whole = {"validations": 4, "patience": 100}  # nobody stops early: the tokens are to be equal
    return {"seed": seed, "tasks": {task: {"weight": 0.0} for task in off}, "training": whole}


def _fewest_targets(seed: int, tokens: int) -> int:
    """Target tokens of the mixture that has fewest of them among `tokens` tokens: the number that every run gets."""
    counts = []
    for off in SWITCHED_OFF.values():
        with prepared(load_experiment(None, _settings(off, seed))) as found:
            samples = _samples(found, new_backbone(found), tokens)
            counts.append(sum(int(sample.bears_loss.sum()) for sample in samples))
    return min(counts)


def _samples(found: RunParts, backbone: Backbone, tokens: int) -> list[Encoded]:
    """Samples of as many epochs as `tokens` take, in their order."""
    samples: list[Encoded] = []
    total = 0
    for epoch in itertools.count():
        for sample in encoded_epoch(found, backbone, epoch)[0]:
            if total >= tokens:
                return samples
            samples.append(sample)
            total += len(sample)
    raise AssertionError("unreachable")


def thinned(samples: Sequence[Encoded], targets: int) -> list[Encoded]:
    """The same tokens with `targets` of them bearing loss: samples with many targets give up the first ones of their window,
    where the context is shortest, in proportion; samples with few keep all."""
    many = [int(sample.bears_loss.sum()) for sample in samples]
    rich = [number > 8 for number in many]
    surplus = sum(many) - targets
    share = surplus / sum(number for number, is_rich in zip(many, rich, strict=True) if is_rich)
    kept, owed = [], 0.0
    for sample, number, is_rich in zip(samples, many, rich, strict=True):
        if not is_rich:
            kept.append(sample)
            continue
        owed += number * share
        drop = min(number - 1, int(owed))
        owed -= drop
        loss = sample.bears_loss.copy()
        loss[np.flatnonzero(loss)[:drop]] = False
        kept.append(Encoded(sample.ids, loss))
    return kept


def _measure(name: str, off: Sequence[str], seed: int, tokens: int, targets: int) -> dict[str, Any]:
    with prepared(load_experiment(None, _settings(off, seed))) as found:
        backbone = new_backbone(found)
        samples = thinned(_samples(found, backbone, tokens), targets)
        result, seconds = trained(found, backbone, [samples])
        tables = figures(found, backbone, "test")
    offered = sum(int(sample.bears_loss.sum()) for sample in samples)
    return {
        "mixture": name,
        "seed": seed,
        "target tokens": offered,
        "context tokens": sum(map(len, samples)) - offered,
        "tokens taken": result.tokens,
        "best step": f"{result.best_step} of {result.steps}",
        "training seconds": round(seconds, 1),
        "part": "test",
        **summary(tables),
    }


def difference(runs: Sequence[dict[str, Any]], name: str, metric: str) -> dict[str, Any]:
    """All on minus `name` on the same users: the mean over the seeds, and its 95 % interval over them (Student's t)."""
    of = {(run["mixture"], run["seed"]): run[metric] for run in runs}
    values = [of["all on", seed] - of[name, seed] for mixture, seed in of if mixture == name]
    mean = float(np.mean(values))
    reach = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else math.inf
    return {
        "difference": f"all on minus {name}",
        "metric": metric,
        "value": round(mean, 4),
        "low": round(mean - reach, 4) if len(values) > 1 else None,
        "high": round(mean + reach, 4) if len(values) > 1 else None,
        "per seed": [round(value, 4) for value in values],
    }


KINDS = ("target tokens", "context tokens")


def _apart(counts: Sequence[int]) -> float:
    """By how much the largest exceeds the smallest."""
    return max(counts) / min(counts) - 1


def _claims(runs: Sequence[dict[str, Any]], differences: Sequence[dict[str, Any]]) -> list[Claim]:
    apart = max(_apart([run[kind] for run in runs if run["seed"] == seed]) for seed in {run["seed"] for run in runs} for kind in KINDS)
    longest = max(run["training seconds"] for run in runs)
    gain = next(d for d in differences if d["difference"] == "all on minus none" and d["metric"] == "retrieval ndcg@10")
    said = f"{gain['value']} [{gain['low']}, {gain['high']}]"
    return [
        Claim(CLAIMS[0], round(apart, 4), "<= 0.02", apart <= 0.02),
        Claim(CLAIMS[1], longest, "<= 180 seconds", longest <= 180),
        Claim(CLAIMS[2], said, "low end > 0", (gain["low"] or 0) > 0),
    ]
