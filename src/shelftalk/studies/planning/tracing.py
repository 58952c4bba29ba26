"""What a training batch costs, without computing it: the model is run on tensors that have a shape and no
values.

Torch's fake tensors go through the same operations as real ones, so that what autograd would keep for the way
back, and the products that would be computed, are counted and not guessed. Kernels are those of the
processor: a GPU's attention keeps less.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from shelftalk.models.backbone import Backbone
from shelftalk.models.pretrained import enable_checkpointing, without_values
from shelftalk.models.text_encoder import Encoded

FP32, HALF = 4, 2
"""Bytes of a number, and of one in bf16."""


@dataclass(frozen=True)
class Trace:
    """One batch: `kept` bytes for the way back (logits aside), `logits` bytes of the labels' scores over the
    vocabulary and their gradients, `flops` operations of the forward pass, `tokens` with padding, `samples`
    or the rows that they share."""

    kept: int
    logits: int
    flops: int
    tokens: int
    samples: int


class ShapeModel:
    """A backbone's twin without values. `bf16`: products in bf16; `checkpointing`: layers keep their inputs
    alone."""

    def __init__(self, backbone: Backbone, bf16: bool, checkpointing: bool = False) -> None:
        self._mode = FakeTensorMode()
        with self._mode:
            self._twin = type(backbone)(without_values(backbone.model).train(), backbone.tokenizer, bf16)
        self._number = HALF if bf16 else FP32
        if checkpointing:
            enable_checkpointing(self._twin.model)
        self._backbone = backbone

    def trace(self, samples: Sequence[Encoded]) -> Trace:
        """The cost of a batch of these samples."""
        batch = self._backbone.collate(samples)
        counter = FlopCounterMode(display=False)
        kept = _Kept(self._twin.model)
        with self._mode, counter, torch.autograd.graph.saved_tensors_hooks(kept.keep, lambda tensor: tensor):
            shaped: dict[str, torch.Tensor] = {
                name: self._mode.from_tensor(tensor) for name, tensor in batch.items()
            }
            # the last operation leaves out labels that do not count; how many there are is a value, which
            # nothing has here
            with suppress(DynamicOutputShapeException):
                self._twin.label_log_probs(shaped)
        # scores are computed where there is a label, and kept once, in the products' precision; so is their
        # gradient (LabelScores)
        scores = self._number * batch["labels"].numel() * self._twin.model.config.vocab_size
        tokens = sum(tensor.numel() for name, tensor in batch.items() if name.endswith("input_ids"))
        return Trace(max(0, kept.bytes - scores), 2 * scores, counter.get_total_flops(), tokens, len(samples))


class _Kept:
    """Bytes of the different storages that autograd keeps, the weights' own aside."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._weights = {
            weight.untyped_storage()._cdata for weight in (*model.parameters(), *model.buffers())
        }
        self._storages: dict[int, torch.UntypedStorage] = {}  # held, so that no number is given to another

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._weights:
            self._storages[storage._cdata] = storage
        return tensor

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self._storages.values())


def like(prompt: int, answer: int, targets: int) -> Encoded:
    """A sample of given lengths: what stands before the first token that bears loss, the rest, and how many
    of the rest bear it."""
    loss = np.zeros(prompt + answer, bool)
    loss[prompt : prompt + targets] = True
    return Encoded(np.zeros(prompt + answer, np.int32), loss)
