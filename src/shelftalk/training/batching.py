"""Samples as training batches: one fixed order of steps, known before the first one is taken.

Samples of like length share a batch, so that little is padding; the batches of an epoch come in seeded order. Nothing depends
on workers or on how often a run was resumed. Legend: B samples, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset as TorchDataset

from shelftalk import seeds
from shelftalk.models.backbone import LENGTH_STEP, Backbone, Encoded, rounded_up


@dataclass(frozen=True)
class StepCounts:
    """What one batch, or one training step, reads: real tokens, those of them that bear loss, and tokens with padding."""

    tokens: int
    targets: int
    padded: int


class Steps(TorchDataset):
    """Step number -> batch of tensors, over all epochs: a plain map, so that a resumed run skips by number alone."""

    def __init__(self, backbone: Backbone, epochs: Sequence[Sequence[Encoded]], batch_tokens: int, seed: int) -> None:
        self._backbone = backbone
        self._epochs = epochs
        self._batches = [
            (number, batch)
            for number, samples in enumerate(epochs)
            for batch in _epoch_batches(samples, batch_tokens, seed, number)
        ]
        self.epoch_ends = [sum(1 for e, _ in self._batches if e <= number) for number in range(len(epochs))]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        return self._backbone.collate(self.samples(step))

    def samples(self, step: int) -> list[Encoded]:
        """The samples of one step."""
        epoch, batch = self._batches[step]
        return [self._epochs[epoch][place] for place in batch]

    def counts(self) -> list[StepCounts]:
        """What each step reads."""
        return [_counts(self.samples(step)) for step in range(len(self))]


def length_batches(samples: Sequence[Encoded], batch_tokens: int) -> list[list[int]]:
    """Places of the samples in batches of at most `batch_tokens` tokens with padding (a longer sample stands alone).

    From the longest down, each batch as full as its longest sample allows, so that few shapes occur.
    """
    order = sorted(range(len(samples)), key=lambda place: -len(samples[place]))
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // rounded_up(len(samples[order[start]]), LENGTH_STEP))
        batches.append(order[start : start + size])
        start += size
    return batches


def _epoch_batches(samples: Sequence[Encoded], batch_tokens: int, seed: int, epoch: int) -> list[list[int]]:
    batches = length_batches(samples, batch_tokens)
    order = seeds.generator(seed, "batch order", epoch).permutation(len(batches))
    return [batches[number] for number in order.tolist()]


def _counts(samples: Sequence[Encoded]) -> StepCounts:
    lengths = [len(sample) for sample in samples]
    targets = sum(int(sample.bears_loss.sum()) for sample in samples)
    return StepCounts(sum(lengths), targets, rounded_up(max(lengths), LENGTH_STEP) * len(lengths))
