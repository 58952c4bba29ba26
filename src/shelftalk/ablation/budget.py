"""As much of the mixture as a budget of tokens takes: epochs made in memory, the last one cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shelftalk.assemble import RunParts
from shelftalk.errors import SettingsError
from shelftalk.tasks.mixture import epoch_samples

if TYPE_CHECKING:  # torch is loaded only where a language model is
    from shelftalk.models.backbone import Backbone, Encoded
    from shelftalk.tasks.samples import Samples

AT_ONCE = 2000
"""Samples encoded at once: what lies behind the cut need not be."""


@dataclass(frozen=True)
class Budgeted:
    """Encoded samples by epoch, and what they cost."""

    epochs: list[list[Encoded]]
    tokens: int
    targets: int
    samples: int
    epochs_seen: float
    """Passes over the mixture: 1.25 is one epoch and a quarter of the samples of the next."""
    tokens_by_task: dict[str, int]


def samples_for(found: RunParts, backbone: Backbone, budget: int) -> Budgeted:
    """Whole samples in the mixture's order until their tokens, prompts and targets together, reach `budget`.

    Two runs with one budget so differ by less than one sample. Raises SettingsError for a mixture without samples.
    """
    trained = [task for name, task in found.tasks.items() if found.experiment.tasks[name].weight > 0]
    epochs: list[list[Encoded]] = []
    by_task: dict[str, int] = {}
    total, seen = 0, 0.0
    while total < budget:
        samples = epoch_samples(trained, len(epochs), found.experiment.seed) if trained else ()
        if not samples:
            raise SettingsError("the mixture has no samples for this data; switch another task on.")
        taken = _first_tokens(samples, backbone, budget - total)
        for sample, encoded in zip(samples, taken, strict=False):
            by_task[sample.task] = by_task.get(sample.task, 0) + len(encoded)
        epochs.append(taken)
        total += sum(map(len, taken))
        seen += len(taken) / len(samples)
    targets = sum(int(sample.bears_loss.sum()) for epoch in epochs for sample in epoch)
    return Budgeted(epochs, total, targets, sum(map(len, epochs)), seen, by_task)


def _first_tokens(samples: Samples, backbone: Backbone, tokens: int) -> list[Encoded]:
    """The first samples that reach `tokens` together, or all."""
    taken: list[Encoded] = []
    for start in range(0, len(samples), AT_ONCE):
        for encoded in backbone.encode_samples(samples[start : start + AT_ONCE]):
            taken.append(encoded)
            tokens -= len(encoded)
            if tokens <= 0:
                return taken
    return taken
