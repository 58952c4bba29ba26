"""How much memory training takes, from the shapes of the weights and the trace of its largest batch. Bytes throughout."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from transformers import PreTrainedModel

from shelftalk.planning.tracing import FP32, Trace

HALF = 2
"""Bytes of a bf16 number."""


@dataclass(frozen=True)
class Memory:
    """`base`: what is there before any model; `activations`: kept for the way back, at the largest batch; `logits`: scores over the
    vocabulary and their gradients."""

    base: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    accumulates: bool

    @property
    def peak(self) -> int:
        """The highest moment: activations go as gradients come, unless gradients of earlier batches are there already."""
        standing = self.base + self.weights + self.optimizer
        passing = self.activations + self.logits
        return standing + (passing + self.gradients if self.accumulates else max(passing, self.gradients))

    def rows(self) -> dict[str, int]:
        """The parts by name, and the peak."""
        parts = {name: value for name, value in asdict(self).items() if name != "accumulates"}
        return {**parts, "peak": self.peak}


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on every linear layer, after Hu et al. (ICLR 2022): `trainable` weights, new symbols' rows among them."""

    rank: int
    trainable: int


def full_memory(model: PreTrainedModel, largest: Trace, base: int, optimizer: Literal["adamw", "adafactor"], accumulation: int) -> Memory:
    """Every weight is trained, in fp32."""
    shapes = [weight.shape for weight in model.parameters()]
    weights = FP32 * sum(shape.numel() for shape in shapes)
    states = 2 * weights if optimizer == "adamw" else adafactor_states(shapes)
    return Memory(base, weights, weights, states, largest.kept, largest.logits, accumulation > 1)


def lora_memory(model: PreTrainedModel, adapters: Lora, largest: Trace, base: int, accumulation: int) -> Memory:
    """Frozen weights in bf16, adapters in fp32 with AdamW."""
    weights = HALF * sum(weight.numel() for weight in model.parameters()) + FP32 * adapters.trainable
    trained = FP32 * adapters.trainable
    return Memory(base, weights, trained, 2 * trained, largest.kept, largest.logits, accumulation > 1)


def lora(model: PreTrainedModel, rank: int, new_symbols: int) -> Lora:
    """`rank` rows and columns for each linear layer but the output, and the whole rows of the new symbols."""
    output = model.get_output_embeddings()
    linear = [part for part in model.modules() if isinstance(part, torch.nn.Linear) and part is not output]
    rows = len({id(layer.weight) for layer in (output, model.get_input_embeddings())}) * new_symbols * model.config.hidden_size
    return Lora(rank, sum(rank * (part.in_features + part.out_features) for part in linear) + rows)


def adafactor_states(shapes: list[torch.Size]) -> int:
    """Sums of rows and columns in place of a number for each weight; and, while a matrix is updated, three copies of it."""
    kept = sum(shape[0] + shape[1] if len(shape) == 2 else shape.numel() for shape in shapes)
    return FP32 * (kept + 3 * max(shape.numel() for shape in shapes))


def smaller(batch: Trace, parts: int) -> Trace:
    """A batch of one `parts`-th of the samples, one at least."""
    parts = min(parts, batch.samples)
    return Trace(batch.kept // parts, batch.logits // parts, batch.flops // parts, batch.tokens // parts, max(1, batch.samples // parts))
