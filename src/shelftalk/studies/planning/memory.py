"""How much memory training takes, from the weights, which of them are trained, and the trace of its largest
batch. Bytes throughout."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch
from transformers import PreTrainedModel

from shelftalk.studies.planning.tracing import FP32, Trace

Optimizer = Literal["adamw", "adafactor"]
GATHERED = 2
"""Layers whose whole weights a GPU holds at once where each holds a share: the one that it computes and the
one that is being gathered."""


@dataclass(frozen=True)
class Memory:
    """`base`: what is used before any model; `activations`: kept for the backward pass of the largest batch;
    `logits`: the scores of its labels over the vocabulary and their gradients."""

    base: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    accumulates: bool

    @property
    def peak(self) -> int:
        """The highest moment: the backward pass frees activations as it makes gradients, unless gradients of
        earlier batches are there already."""
        permanent = self.base + self.weights + self.optimizer
        temporary = self.activations + self.logits
        if self.accumulates:
            return permanent + temporary + self.gradients
        return permanent + max(temporary, self.gradients)

    def rows(self) -> dict[str, int]:
        """The parts by name, and the peak."""
        parts = {name: value for name, value in asdict(self).items() if name != "accumulates"}
        return {**parts, "peak": self.peak}


def trainable(model: PreTrainedModel) -> list[torch.Size]:
    """Shapes of the weights that are trained: all of them, or adapters and the rows of new tokens."""
    return [weight.shape for weight in model.parameters() if weight.requires_grad]


def training_memory(
    model: PreTrainedModel, largest: Trace, base: int, optimizer: Optimizer, accumulation: int
) -> Memory:
    """All weights in fp32, whatever the precision of the products; gradients and what the
    optimiser keeps for those that are trained."""
    shapes = trainable(model)
    trained = FP32 * sum(shape.numel() for shape in shapes)
    states = 2 * trained if optimizer == "adamw" else adafactor_states(shapes)
    weights = FP32 * sum(weight.numel() for weight in model.parameters())
    return Memory(base, weights, trained, states, largest.kept, largest.logits, accumulation > 1)


def sharded(whole: Memory, share: Trace, model: PreTrainedModel, gpus: int) -> Memory:
    """What each of some GPUs needs where weights, gradients and optimiser are divided among them (FSDP, ZeRO
    stage 3; Rajbhandari et al., SC 2020), with `share` of the largest batch. Every layer is gathered while
    it is computed."""
    divided = {part: -(-getattr(whole, part) // gpus) for part in ("weights", "gradients", "optimizer")}
    divided["weights"] += GATHERED * FP32 * largest_layer(model)
    return replace(whole, **divided, activations=share.kept, logits=share.logits)


def replicated(whole: Memory, share: Trace) -> Memory:
    """What each of some GPUs needs where each holds all, with `share` of the largest batch (DDP). Gradients
    are held a second time, in the buckets that are reduced."""
    return replace(whole, gradients=2 * whole.gradients, activations=share.kept, logits=share.logits)


def largest_layer(model: PreTrainedModel) -> int:
    """Weights of the largest part that is divided as one: a layer, or an embedding, which in a small model is
    larger."""
    parts = [
        model.get_input_embeddings(),
        *(part for part in model.modules() if type(part).__name__ in (model._no_split_modules or ())),
    ]
    result: int = max(sum(weight.numel() for weight in part.parameters()) for part in parts)
    return result


def adafactor_states(shapes: list[torch.Size]) -> int:
    """Sums of rows and columns in place of a number for each weight; and, while a matrix is updated, three
    copies of it."""
    kept = sum(shape[0] + shape[1] if len(shape) == 2 else shape.numel() for shape in shapes)
    return FP32 * (kept + 3 * max(shape.numel() for shape in shapes))


def smaller(batch: Trace, parts: int) -> Trace:
    """A batch of one `parts`-th of the rows, rounded up, one at least."""
    rows = -(-batch.samples // parts)
    kept, logits, flops, tokens = (
        number * rows // batch.samples for number in (batch.kept, batch.logits, batch.flops, batch.tokens)
    )
    return Trace(kept, logits, flops, tokens, rows)
