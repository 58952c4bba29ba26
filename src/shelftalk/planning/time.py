"""How long training takes: operations by the rate of a GPU, or by what this processor is measured to do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers.optimization import Adafactor

from shelftalk.models.backbone import Backbone, Encoded
from shelftalk.models.pretrained import enable_checkpointing
from shelftalk.planning.tracing import FP32, Trace
from shelftalk.training.settings import TrainingSettings

SMALL = 30_000_000
"""Weights up to which steps are tried out rather than worked out."""
WIDTH = 1024
"""Side of the matrices by which the processor's rate is measured."""
TRAFFIC = 3
"""How often a kept activation is moved: written, read on the way back, and its gradient written."""
OPTIMIZER_TRAFFIC = 7
"""How often AdamW moves a number per weight: weight, gradient and two moments read, weight and moments written."""


@dataclass(frozen=True)
class Rate:
    """This processor: operations a second in matrix products, bytes a second in memory."""

    flops: float
    bandwidth: float


def passes(checkpointing: bool, adapters: bool) -> int:
    """Forward passes that a step amounts to: one forward, two on the way back (one where weights are frozen), one again."""
    return (2 if adapters else 3) + checkpointing


def gpu_seconds(flops: float, peak: float, gpus: int, utilisation: float, together: float) -> float:
    """Seconds for `flops` operations on some GPUs that each get `utilisation` of their `peak`, in 10^12 operations a second, and
    `together` of that side by side."""
    return flops / (peak * 1e12 * utilisation * gpus * (together if gpus > 1 else 1))


def step_seconds(batch: Trace, trained: int, rate: Rate, forward_passes: int) -> float:
    """Seconds of a step on the processor: its products, the activations moved and AdamW's pass over the `trained` weights, which
    stands for Adafactor's too."""
    products = batch.flops * forward_passes / rate.flops
    moved = TRAFFIC * (batch.kept + batch.logits) + FP32 * OPTIMIZER_TRAFFIC * trained
    return products + moved / rate.bandwidth


def measured_rate(bf16: bool) -> Rate:
    """A few matrix products of this processor, and a few passes through its memory; about a second."""
    kind = torch.bfloat16 if bf16 else torch.float32
    one, other = torch.randn(2 * WIDTH, WIDTH).to(kind), torch.randn(WIDTH, 2 * WIDTH).to(kind)
    seconds = _median(lambda: one @ other)
    large = torch.randn(16_000_000)
    moved = _median(lambda: large.mul(1.5))
    return Rate(2 * (2 * WIDTH) * WIDTH * (2 * WIDTH) / seconds, 2 * FP32 * large.numel() / moved)


def tried_out(backbone: Backbone, batches: Sequence[Sequence[Encoded]], settings: TrainingSettings) -> float:
    """Mean seconds of a training step over some batches, with the optimiser and checkpointing of the settings. Each batch is taken
    twice: the first time its kernels are made. The backbone learns a little, so hand over one that nobody needs."""
    optimizer = _optimizer(backbone, settings)
    backbone.model.train()
    if settings.gradient_checkpointing:
        enable_checkpointing(backbone.model)

    def step(batch: dict[str, torch.Tensor]) -> float:
        start = time.perf_counter()
        backbone.loss(batch).backward()
        torch.nn.utils.clip_grad_norm_(backbone.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - start

    collated = [backbone.collate(batch) for batch in batches]
    for batch in collated:
        step(batch)
    return statistics.mean(step(batch) for batch in collated)


def _optimizer(backbone: Backbone, settings: TrainingSettings) -> torch.optim.Optimizer:
    """As the trainer makes it, with steps too small to matter."""
    weights = backbone.model.parameters()
    if settings.optimizer == "adafactor":
        return Adafactor(weights, lr=1e-9, scale_parameter=False, relative_step=False)
    return torch.optim.AdamW(weights, lr=1e-9, fused=True)


def _median(work: Callable[[], object], times: int = 7) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[2:])
