"""How long training takes: operations by the rate of a GPU, or by what this processor is measured to do.

A processor is timed by the seconds that it works for this process, not by those that pass: other work beside
it would otherwise be counted as this training's own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from transformers.optimization import Adafactor

from shelftalk.models.backbone import Backbone
from shelftalk.models.pretrained import enable_checkpointing
from shelftalk.models.text_encoder import Encoded
from shelftalk.studies.planning.tracing import FP32, Trace
from shelftalk.training.settings import TrainingSettings

SMALL = 30_000_000
"""Weights up to which steps are measured rather than calculated."""
WIDTH = 1024
"""Side of the matrices by which the processor's rate is measured."""
TRAFFIC = 3
"""How often a kept activation is moved: written, read by the backward pass, and its gradient written."""
BUSY = 1.3
"""Seconds that pass for each second of work from which on the machine counts as busy with something else."""
OPTIMIZER_TRAFFIC = 7
"""How often AdamW moves a number per weight: weight, gradient and two moments read, weight and moments
written."""


@dataclass(frozen=True)
class Rate:
    """This processor: operations a second in matrix products, bytes a second in memory."""

    flops: float
    bandwidth: float
    busy: float = 1.0
    """Seconds that passed for each second of work while the rate was measured (see Timed)."""


@dataclass(frozen=True)
class Moment:
    """Three clocks, in seconds: `wall` time, the processor time of this `thread`, and that of the whole
    `process`."""

    wall: float
    thread: float
    process: float


@dataclass(frozen=True)
class Timed:
    """What some work takes: `seconds` that a machine needs which does nothing else, and the seconds that
    `passed`."""

    seconds: float
    passed: float

    @property
    def busy(self) -> float:
        """Seconds that passed for each second of work: about 1 on a machine that does nothing else."""
        return self.passed / self.seconds if self.seconds else 1.0


def now() -> Moment:
    """The three clocks."""
    return Moment(time.perf_counter(), time.thread_time(), time.process_time())


def timed(work: Callable[[], object]) -> Timed:
    """Do the work and time it. On a GPU what passes until it is done counts; on a processor the larger of two
    lower bounds: the processor time of the main thread, and an equal share of all threads' processor
    time."""
    start = now()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    end = now()
    passed = end.wall - start.wall
    if torch.cuda.is_available():
        return Timed(passed, passed)
    return Timed(
        max(end.thread - start.thread, (end.process - start.process) / torch.get_num_threads()), passed
    )


def other_work(busy: float) -> str:
    """A sentence where the machine was busy with something else while it was timed; "" where it was not."""
    if busy < BUSY:
        return ""
    return (
        f"The machine was busy with other work meanwhile ({busy:.1f} seconds passed for each that it "
        "worked): the hours are by processor time, as of a machine that does nothing else, and beside such "
        "work they are that much longer."
    )


def passes(checkpointing: bool, adapters: bool) -> int:
    """Forward passes that a step costs: one forward, two for the backward pass (one where weights are
    frozen), and one more with checkpointing."""
    return (2 if adapters else 3) + checkpointing


def gpu_seconds(flops: float, peak: float, gpus: int, utilisation: float, together: float) -> float:
    """Seconds for `flops` operations on some GPUs that each get `utilisation` of their `peak`, in 10^12
    operations a second, and `together` of that side by side."""
    return flops / (peak * 1e12 * utilisation * gpus * (together if gpus > 1 else 1))


def step_seconds(batch: Trace, trained: int, rate: Rate, forward_passes: int) -> float:
    """Seconds of a step on the processor: its products, the activations moved and AdamW's pass over the
    `trained` weights, which stands for Adafactor's too."""
    products = batch.flops * forward_passes / rate.flops
    moved = TRAFFIC * (batch.kept + batch.logits) + FP32 * OPTIMIZER_TRAFFIC * trained
    return products + moved / rate.bandwidth


def measured_rate(bf16: bool) -> Rate:
    """A few matrix products of this processor, and a few passes through its memory; about a second."""
    kind = torch.bfloat16 if bf16 else torch.float32
    one, other = torch.randn(2 * WIDTH, WIDTH).to(kind), torch.randn(WIDTH, 2 * WIDTH).to(kind)
    products = _median(lambda: one @ other)
    large = torch.randn(16_000_000)
    moved = _median(lambda: large.mul(1.5))
    flops, bytes_moved = 2 * (2 * WIDTH) * WIDTH * (2 * WIDTH), 2 * FP32 * large.numel()
    return Rate(flops / products.seconds, bytes_moved / moved.seconds, max(products.busy, moved.busy))


def measured_step(
    backbone: Backbone, batches: Sequence[Sequence[Encoded]], settings: TrainingSettings
) -> Timed:
    """A training step, the mean over some batches, with the optimiser and checkpointing of the settings. Each
    batch is taken twice: the first time builds its kernels. The backbone is changed a little."""
    optimizer = _optimizer(backbone, settings)
    backbone.model.train()
    if settings.gradient_checkpointing:
        enable_checkpointing(backbone.model)

    def step(batch: dict[str, torch.Tensor]) -> None:
        backbone.loss(batch).backward()
        torch.nn.utils.clip_grad_norm_(backbone.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    collated = [
        {name: part.to(backbone.device) for name, part in backbone.collate(batch).items()}
        for batch in batches
    ]
    for batch in collated:
        step(batch)
    steps = [timed(partial(step, batch)) for batch in collated]
    seconds, passed = ([one.seconds for one in steps], [one.passed for one in steps])
    return Timed(statistics.mean(seconds), statistics.mean(passed))


def _optimizer(backbone: Backbone, settings: TrainingSettings) -> torch.optim.Optimizer:
    """As the trainer makes it, with steps too small to matter."""
    weights = backbone.model.parameters()
    if settings.optimizer == "adafactor":
        result: torch.optim.Optimizer = Adafactor(
            weights, lr=1e-9, scale_parameter=False, relative_step=False
        )
        return result
    return torch.optim.AdamW(weights, lr=1e-9, fused=True)


def _median(work: Callable[[], object], times: int = 7) -> Timed:
    """The median of several times, without the first two."""
    taken = sorted([timed(work) for _ in range(times)][2:], key=lambda one: one.seconds)
    return Timed(taken[len(taken) // 2].seconds, statistics.median(one.passed for one in taken))
