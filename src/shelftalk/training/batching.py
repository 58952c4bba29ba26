"""Samples as training batches: one fixed order of steps, known before the first one is taken.

Samples of similar length share a batch, so that little is padding; the batches of an epoch come in seeded
order. Nothing depends on workers or on how often a run was resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from shelftalk import seeds
from shelftalk.errors import SettingsError
from shelftalk.models.backbone import LENGTH_STEP, NOT_COUNTED, Backbone, rounded_up
from shelftalk.models.text_encoder import Encoded
from shelftalk.runtime.distributed import SINGLE_PROCESS, World
from shelftalk.training.encoded_files import lengths_of, targets_of
from shelftalk.training.packing import NO_SHARED_ROWS, packed_rows, side_by_side


@dataclass(frozen=True)
class StepCounts:
    """What one batch, or one training step, reads: real tokens, those of them that bear loss, and tokens
    with padding."""

    tokens: int
    targets: int
    padded: int


Rows = np.ndarray | list[list[int]]
"""A batch: the position of the one sample of each row, or the positions of all samples of each row."""


class Epochs(Sequence[Sequence[Encoded]]):
    """Epochs that are read on access. Only the last one read is kept in memory."""

    def __init__(self, read: Callable[[int], Sequence[Encoded]], number: int) -> None:
        """`read` returns the samples of an epoch by its number, the same ones every time."""
        self._read = read
        self._number = number
        self._last: tuple[int, Sequence[Encoded]] = (-1, ())

    def __len__(self) -> int:
        return self._number

    @overload
    def __getitem__(self, epoch: int) -> Sequence[Encoded]: ...
    @overload
    def __getitem__(self, epoch: slice) -> list[Sequence[Encoded]]: ...
    def __getitem__(self, epoch: int | slice) -> Sequence[Encoded] | list[Sequence[Encoded]]:
        if isinstance(epoch, slice):
            return [self[number] for number in range(*epoch.indices(self._number))]
        number = range(self._number)[epoch]  # raises IndexError, and counts from the end, as a list does
        if self._last[0] != number:
            self._last = (-1, ())  # freed before the next one is read
            self._last = (number, self._read(number))
        return self._last[1]


class Steps(TorchDataset[Any]):
    """Step number -> batch of tensors, over all epochs: a map-style data set, so that a resumed run skips
    steps by their number.

    Every epoch is read once to plan the steps, of which the positions of its samples are kept, and again when
    it is trained. With `row_tokens` short samples share rows of so many tokens (see packing.py); raises
    SettingsError for an encoder-decoder. The steps are the same for any number of `processes`, each of which
    gets its share of every batch.
    """

    def __init__(
        self,
        backbone: Backbone,
        epochs: Sequence[Sequence[Encoded]],
        batch_tokens: int,
        seed: int,
        row_tokens: int = 0,
        processes: World = SINGLE_PROCESS,
    ) -> None:
        if row_tokens and backbone.declaration.encoder:
            raise SettingsError(NO_SHARED_ROWS)
        self._backbone = backbone
        self._epochs = epochs
        self._processes = processes
        self._batches: list[tuple[int, Rows]] = []
        self._counts: list[StepCounts] = []
        self.epoch_ends: list[int] = []
        for number in range(len(epochs)):
            lengths, targets = lengths_of(epochs[number]), targets_of(epochs[number])
            batches = _epoch_batches(lengths, batch_tokens, seed, number, row_tokens)
            self._batches += [(number, batch) for batch in batches]
            self._counts += [_counts(lengths, targets, batch, backbone.padding.length) for batch in batches]
            self.epoch_ends.append(len(self._batches))

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        epoch, rows = self._batches[step]
        samples = self._epochs[epoch]
        batch = [side_by_side([samples[position] for position in row]) for row in _as_lists(rows)]
        return share_of(batch, self._backbone, self._processes)

    def samples(self, step: int) -> list[Encoded]:
        """The samples of one step."""
        epoch, rows = self._batches[step]
        samples = self._epochs[epoch]
        return [samples[position] for row in _as_lists(rows) for position in row]

    def counts(self) -> list[StepCounts]:
        """What each step reads."""
        return self._counts


def share_of(batch: Sequence[Encoded], backbone: Backbone, processes: World) -> dict[str, torch.Tensor]:
    """The rows of a batch that are this process's, collated. Where it has none it reads the first row with no
    label counted, since all processes must take every step."""
    mine = processes.shard(batch)
    tensors = backbone.collate(mine or batch[:1])
    if not mine:
        tensors["labels"] = torch.full_like(tensors["labels"], NOT_COUNTED)
    return tensors


def length_batches(samples: Sequence[Encoded], batch_tokens: int) -> list[list[int]]:
    """Positions of the samples in batches of at most `batch_tokens` tokens with padding; a longer sample is a
    batch of its own.

    From the longest down, each batch as full as its longest sample allows, so that few shapes occur.
    """
    return [batch.tolist() for batch in _batches_of(lengths_of(samples), batch_tokens)]


def _batches_of(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    order = np.argsort(-lengths, kind="stable").astype(np.int32)
    batches: list[np.ndarray] = []
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // rounded_up(int(lengths[order[start]]), LENGTH_STEP))
        batches.append(order[start : start + size])
        start += size
    return batches


def _epoch_batches(
    lengths: np.ndarray, batch_tokens: int, seed: int, epoch: int, row_tokens: int
) -> list[Rows]:
    """Batches of rows of sample positions, in seeded order. `lengths` [N] tokens of each sample."""
    rows = packed_rows(lengths.tolist(), row_tokens) if row_tokens else []
    of_rows = np.array([lengths[row].sum() for row in rows], np.int64) if row_tokens else lengths
    batches = _batches_of(of_rows, batch_tokens)
    order = seeds.generator(seed, "batch order", epoch).permutation(len(batches)).tolist()
    if not row_tokens:
        return [batches[number] for number in order]
    return [[rows[row] for row in batches[number].tolist()] for number in order]


def _as_lists(rows: Rows) -> list[list[int]]:
    return rows if isinstance(rows, list) else [[position] for position in rows.tolist()]


def _counts(lengths: np.ndarray, targets: np.ndarray, rows: Rows, step: int) -> StepCounts:
    if isinstance(rows, list):
        of_rows = np.array([lengths[row].sum() for row in rows])
        bearing = sum(int(targets[row].sum()) for row in rows)
    else:
        of_rows, bearing = lengths[rows], int(targets[rows].sum())
    return StepCounts(int(of_rows.sum()), bearing, rounded_up(int(of_rows.max()), step) * len(of_rows))
