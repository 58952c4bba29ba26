"""Which nano model `make run` uses: family and item index, at equal time on this machine, judged on
validation."""

from __future__ import annotations

import itertools
from typing import Any

from benchmarks._nano import bundled_hash, encoded_epoch, figures, peak_memory, prepared, summary, trained
from benchmarks.harness import Claim, Result
from shelftalk.experiment import load_experiment
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.training.batching import Steps

CLAIMS = [
    "At equal time, the bundled experiment's family and index have the best validation NDCG@10 in retrieval",
]
SEED = 0
CHOICES: dict[str, dict[str, Any]] = {
    "decoder-only, atomic": {},
    "decoder-only, semantic": {"index": {"scheme": "semantic"}},
    "decoder-only, titles": {"index": {"scheme": "titles"}},
    "encoder-decoder, atomic": {
        "nano": {"family": "encoder-decoder"},
        "tasks": {"retrieval": {"targets": 10}, "rating": {"targets": 10}},
        "training": {"learning_rate": 1e-3},
    },
}


def main(quick: bool) -> Result:
    seconds = 30 if quick else 120
    runs = [_measure(name, choice, seconds) for name, choice in CHOICES.items()]
    ndcg = {run["choice"]: run["retrieval ndcg@10"] for run in runs}
    ours = "decoder-only, atomic"
    best_other = max(value for name, value in ndcg.items() if name != ours)
    claim = Claim(CLAIMS[0], ndcg[ours], f"> {best_other} (the best of the others)", ndcg[ours] > best_other)
    return Result(SEED, [claim], runs, bundled_hash())


def _measure(name: str, choice: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Time 12 steps, train as many steps as fit into `seconds` with a learning rate that falls to zero over
    them, and look."""
    experiment = load_experiment(None, {**choice, "seed": SEED})
    with prepared(experiment) as run:
        backbone = new_backbone(run)
        epochs = []
        pace = _seconds_per_step(
            backbone, [encoded_epoch(run, backbone, 0)], experiment.training.batch_tokens
        )
        backbone = new_backbone(run)
        wanted = max(10, int(seconds / pace))
        for epoch in itertools.count():
            epochs.append(encoded_epoch(run, backbone, epoch))
            if len(Steps(backbone, epochs, experiment.training.batch_tokens, SEED)) >= wanted:
                break
        result, wall = trained(run, backbone, epochs, max_steps=wanted)
        measured = {
            "choice": name,
            "parameters": backbone.parameters,
            "training seconds": round(wall, 1),
            "steps": result.steps,
            "tokens": result.tokens,
            "targets": result.targets,
            "part": "validation",
            **summary(figures(run, backbone, "validation")),
            "peak memory GB": peak_memory(),
        }
    print(measured, flush=True)
    return measured


def _seconds_per_step(backbone: Any, epochs: Any, batch_tokens: int) -> float:
    """Median time of a forward and backward pass and an optimiser step, over 12 steps after 4 to warm up."""
    import statistics
    import time

    import torch

    steps = Steps(backbone, epochs, batch_tokens, SEED)
    optimiser = torch.optim.AdamW(backbone.model.parameters(), 1e-4, fused=True)
    times = []
    for step in range(16):
        start = time.perf_counter()
        (backbone.loss(steps[step]) / 1000).backward()
        optimiser.step()
        optimiser.zero_grad()
        times.append(time.perf_counter() - start)
    return statistics.median(times[4:])
