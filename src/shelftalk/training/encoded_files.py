"""The encoded samples of an epoch in files that are mapped into memory: a training holds the batch that it
reads, whatever the size of the epoch.

Legend: N samples, P tokens of all samples together, Q of them that bear loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import overload

import numpy as np

from shelftalk.models.text_encoder import ANY_TOKEN, Encoded, sets_of
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
        self._label_bounds = offsets_of(targets)
        self._sets = _mapped(folder / "sets", np.int32, int(self._label_bounds[-1]))  # [Q]

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
        of_row, of_labels = (
            slice(*bounds[row : row + 2].tolist()) for bounds in (self._bounds, self._label_bounds)
        )
        sets = np.array(self._sets[of_labels])
        return Encoded(
            np.array(self._ids[of_row]),
            np.array(self._loss[of_row]),
            sets=sets if (sets != ANY_TOKEN).any() else None,
        )


def write_encoded(parts: Iterable[Sequence[Encoded]], folder: Path) -> EncodedFiles:
    """Write samples without soft targets into a new `folder`, a part at a time."""
    folder.mkdir()
    lengths, targets = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    names = ("ids", "loss", "sets")
    with ExitStack() as files:
        ids, loss, sets = (files.enter_context((folder / name).open("wb")) for name in names)
        for part in parts:
            for sample in part:
                ids.write(sample.ids.astype(np.int32, copy=False).tobytes())
                loss.write(sample.bears_loss.tobytes())
                sets.write(sets_of(sample).tobytes())
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
