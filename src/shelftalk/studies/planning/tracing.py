"""What a training batch costs, without computing it: the model is run on tensors that have a shape and no
values.

Torch's fake tensors go through the same operations as real ones, so that what autograd would keep for the
backward pass, and the operations of the forward pass, are counted and not guessed. Kernels are those of the
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
    """One batch: `kept` bytes for the backward pass (logits aside), `logits` bytes of the labels' scores over
    the vocabulary and their gradients, `flops` operations of the forward pass, `tokens` with padding,
    `samples` or the rows that they share."""

    kept: int
    logits: int
    flops: int
    tokens: int
    samples: int


class FakeBackbone:
    """A copy of a backbone in fake tensors, that traces batches. `bf16`: products in bf16; `checkpointing`:
    layers keep their inputs alone; `gpu`: whether batches are padded as for a GPU, or as for this machine's
    processor."""

    def __init__(self, backbone: Backbone, bf16: bool, gpu: bool, checkpointing: bool = False) -> None:
        self._mode = FakeTensorMode()
        with self._mode:
            self._fake = type(backbone)(without_values(backbone.model).train(), backbone.tokenizer, bf16)
        self._fake.full_precision_on_cpu = not (gpu or bf16)
        self._bytes = HALF if bf16 else FP32
        if checkpointing:
            enable_checkpointing(self._fake.model)

    def trace(self, samples: Sequence[Encoded]) -> Trace:
        """The cost of a batch of these samples."""
        batch = self._fake.collate(samples)
        counter, kept = FlopCounterMode(display=False), _SavedStorages(self._fake.model)
        with self._mode, counter, torch.autograd.graph.saved_tensors_hooks(kept.save, lambda tensor: tensor):
            fake_batch: dict[str, torch.Tensor] = {
                name: self._mode.from_tensor(tensor) for name, tensor in batch.items()
            }
            # the last operation drops the labels that only fill up: how many remain depends on values, and
            # there are none here
            with suppress(DynamicOutputShapeException):
                self._fake.label_log_probs(fake_batch)
        # scores are computed where there is a label, and kept once, in the products' precision; so is their
        # gradient (LabelScores)
        scores = self._bytes * batch["labels"].numel() * self._fake.model.config.vocab_size
        tokens = sum(tensor.numel() for name, tensor in batch.items() if name.endswith("input_ids"))
        return Trace(max(0, kept.bytes - scores), 2 * scores, counter.get_total_flops(), tokens, len(samples))


class _SavedStorages:
    """Bytes of the different storages that autograd keeps, the weights' own aside."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._weights = {
            weight.untyped_storage()._cdata for weight in (*model.parameters(), *model.buffers())
        }
        self._storages: dict[int, torch.UntypedStorage] = {}  # referenced, so that no address is reused

    def save(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._weights:
            self._storages[storage._cdata] = storage
        return tensor

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self._storages.values())


def like(prompt: int, answer: int, targets: int) -> Encoded:
    """A sample of given lengths: `prompt` tokens before the first that bears loss, `answer` tokens from there
    on, the first `targets` of which bear it."""
    loss = np.zeros(prompt + answer, bool)
    loss[prompt : prompt + targets] = True
    return Encoded(np.zeros(prompt + answer, np.int32), loss)
