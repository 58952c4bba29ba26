"""The encoded samples of an epoch in files that are mapped into memory: a training holds the batch that it
reads, whatever the size of the epoch.

Legend: N samples, P tokens of all samples together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from shelftalk.models.text_encoder import Encoded
from shelftalk.ragged import offsets_of


class EncodedFiles(Sequence[Encoded]):
    """N samples, read when they are asked for. `lengths` [N] and `targets` [N] int64 are the numbers of their
    tokens, and of those that bear loss; made by `write_encoded`."""

    def __init__(self, folder: Path, lengths: np.ndarray, targets: np.ndarray) -> None:
        self.lengths = lengths
        self.targets = targets
        self._bounds = offsets_of(lengths)
        number = int(self._bounds[-1])
        self._ids = _mapped(folder / "ids", np.int32, number)  # [P]
        self._loss = _mapped(folder / "loss", np.bool_, number)  # [P]

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, position: int) -> Encoded: ...
    @overload
    def __getitem__(self, position: slice) -> list[Encoded]: ...
    def __getitem__(self, position: int | slice) -> Encoded | list[Encoded]:
        if isinstance(position, slice):
            return [self[one] for one in range(*position.indices(len(self)))]
        row = range(len(self))[position]  # raises IndexError, and counts from the end, as a list does
        of_row = slice(int(self._bounds[row]), int(self._bounds[row + 1]))
        return Encoded(np.array(self._ids[of_row]), np.array(self._loss[of_row]))


def write_encoded(parts: Iterable[Sequence[Encoded]], folder: Path) -> EncodedFiles:
    """Write samples without soft targets into a new `folder`, a part at a time."""
    folder.mkdir()
    lengths, targets = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    with (folder / "ids").open("wb") as ids, (folder / "loss").open("wb") as loss:
        for part in parts:
            for sample in part:
                ids.write(sample.ids.astype(np.int32, copy=False).tobytes())
                loss.write(sample.bears_loss.tobytes())
            lengths.append(lengths_of(part))
            targets.append(targets_of(part))
    return EncodedFiles(folder, np.concatenate(lengths), np.concatenate(targets))


def lengths_of(samples: Sequence[Encoded]) -> np.ndarray:
    """[N] int64 tokens of each sample."""
    if isinstance(samples, EncodedFiles):
        return samples.lengths
    return np.fromiter((len(sample) for sample in samples), np.int64, len(samples))


def targets_of(samples: Sequence[Encoded]) -> np.ndarray:
    """[N] int64 tokens of each sample that bear loss."""
    if isinstance(samples, EncodedFiles):
        return samples.targets
    return np.fromiter((int(sample.bears_loss.sum()) for sample in samples), np.int64, len(samples))


def _mapped(path: Path, kind: type[np.generic], number: int) -> np.ndarray:
    """[number] values of a file; no system maps an empty one."""
    return np.memmap(path, kind, "r", shape=(number,)) if number else np.empty(0, kind)
