"""bf16 training of the nano model on a processor: attention in bf16 against attention in fp32, the rest in
bf16."""

from __future__ import annotations

import statistics
import time

from benchmarks._nano import bundled_hash, encoded_epoch, prepared
from benchmarks.harness import Claim, Result
from shelftalk.experiment import load_experiment
from shelftalk.models.attention import NAME
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.pipeline.run import Run
from shelftalk.training.batching import Steps

CLAIMS = [
    "A training step with fp32 attention inside bf16 is faster than one with bf16 attention (ratio of "
    "medians, runs alternating)"
]
SEED = 0


def main(quick: bool) -> Result:
    rounds, steps = (3, 10) if quick else (5, 30)
    with prepared(load_experiment(None, {"seed": SEED, "training": {"precision": "bf16"}})) as run:
        runs = [
            {"attention": name, "seconds a step": _step(run, name, steps)}
            for _ in range(rounds)
            for name in ("sdpa", NAME)
        ]
    median = {
        name: statistics.median(run["seconds a step"] for run in runs if run["attention"] == name)
        for name in ("sdpa", NAME)
    }
    ratio = median["sdpa"] / median[NAME]
    return Result(SEED, [Claim(CLAIMS[0], round(ratio, 2), "> 1", ratio > 1)], runs, bundled_hash())


def _step(run: Run, attention: str, steps: int) -> float:
    """Median seconds of a forward and backward pass."""
    backbone = new_backbone(run)
    backbone.model.set_attn_implementation(attention)
    plan = Steps(backbone, [encoded_epoch(run, backbone, 0)], run.experiment.training.batch_tokens, SEED)
    times = []
    for step in range(steps):
        start = time.perf_counter()
        (backbone.loss(plan[step]) / 1000).backward()
        backbone.model.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start)
    return round(statistics.median(times[steps // 4 :]), 4)
