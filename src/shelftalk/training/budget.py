"""The first samples of a mixture that fill a budget of tokens: epoch after epoch, the last one cut. For
trainings that must read the same number of tokens."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from shelftalk.errors import SettingsError

if TYPE_CHECKING:  # torch is loaded only where a language model is
    from shelftalk.models.text_encoder import Encoded
    from shelftalk.tasks.samples import Samples

ENCODED_AT_ONCE = 2000
"""Samples encoded at once: those after the cut need not be."""


class Epoch(NamedTuple):
    """One epoch in its order: `tasks` [N] the task of each sample, `samples` the N samples themselves."""

    tasks: Sequence[str]
    samples: Iterable[Encoded]


@dataclass(frozen=True)
class Budgeted:
    """Encoded samples by epoch, and their numbers of tokens."""

    epochs: list[list[Encoded]]
    tokens_by_task: dict[str, int]
    epochs_seen: float
    """Passes over the mixture: 1.25 is one epoch and a quarter of the samples of the next."""

    @property
    def all(self) -> list[Encoded]:
        """The samples of all epochs in their order."""
        return list(itertools.chain(*self.epochs))

    @property
    def tokens(self) -> int:
        """Prompts and targets together."""
        return sum(self.tokens_by_task.values())

    @property
    def targets(self) -> int:
        """Tokens that bear loss."""
        return sum(int(sample.bears_loss.sum()) for sample in self.all)


def first_tokens(epoch: Callable[[int], Epoch], budget: int) -> Budgeted:
    """Whole samples of epochs 0, 1, ... until their tokens, prompts and targets together, reach `budget`.

    Two trainings with one budget so differ by less than one sample. Raises SettingsError for an epoch
    without samples.
    """
    epochs: list[list[Encoded]] = []
    by_task: dict[str, int] = {}
    left, epochs_seen = budget, 0.0
    while left > 0:
        tasks, samples = epoch(len(epochs))
        if not tasks:
            raise SettingsError("the mixture has no samples for this data; switch another task on.")
        taken: list[Encoded] = []
        for task, sample in zip(tasks, samples, strict=False):  # lazy: encoded no further than the budget
            taken.append(sample)
            by_task[task] = by_task.get(task, 0) + len(sample)
            left -= len(sample)
            if left <= 0:
                break
        epochs.append(taken)
        epochs_seen += len(taken) / len(tasks)
    return Budgeted(epochs, by_task, epochs_seen)


def encoded_epoch(samples: Samples, encode: Callable[[Samples], list[Encoded]]) -> Epoch:
    """The samples in their order, encoded lazily, some at a time."""
    batches = (samples[start : start + ENCODED_AT_ONCE] for start in range(0, len(samples), ENCODED_AT_ONCE))
    return Epoch(samples.tasks(), itertools.chain.from_iterable(map(encode, batches)))
