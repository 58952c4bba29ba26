"""The training loop that trained baselines share: epochs until validation gets no better, the best weights
kept, for every combination of settings to try.

A fit is on the processor in single precision. For one seed, machine and number of threads its weights are the
same to the bit; torch's global generator is neither read nor seeded. An interrupted fit begins anew.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from shelftalk import seeds
from shelftalk.baselines.neural.settings import FittingSettings, tuple_fields
from shelftalk.baselines.validation import variants
from shelftalk.errors import NothingLeft, SettingsError
from shelftalk.runtime.progress import report_fitting

BETAS = (0.9, 0.98)
"""Of Adam, as in SASRec's own code."""


class Network(torch.nn.Module, ABC):
    """What is trained: weights, the losses of an epoch, and scores."""

    @abstractmethod
    def losses(self, epoch: int) -> Iterator[torch.Tensor]:
        """The mean loss of each batch of an epoch, 1 the first, computed when it is asked for. What is random
        depends on the seed and the epoch alone."""

    @abstractmethod
    def item_scores(self, users: list[int], histories: list[list[int]]) -> torch.Tensor:
        """[R, I] for the rows of R users, -1 an unknown one, and the catalogue rows of their histories."""


@dataclass(frozen=True)
class Fit:
    """One training: its settings, the epoch whose weights are kept, how many epochs were trained, and the
    NDCG@10 on validation of the weights kept, None where nothing had to be chosen."""

    settings: FittingSettings
    epoch: int
    trained: int
    ndcg: float | None


@dataclass(frozen=True)
class Trainings:
    """The best training, and all that were tried."""

    best: Fit
    tried: tuple[Fit, ...]

    @property
    def epochs(self) -> int:
        """Of all of them together."""
        return sum(fit.trained for fit in self.tried)


def fit_best(
    build: Callable[[Any], Network], settings: FittingSettings, ndcg: Callable[[Network], float]
) -> tuple[Network, Trainings]:
    """Train a network by each variant of the settings and take that of the highest `ndcg`, which measures it
    on validation; of equally good ones the first.

    `build` makes the untrained network of a variant. With one variant and no patience, validation is not
    looked at. Raises SettingsError where a loss is no finite number, and NothingLeft where there is nothing
    to train on.
    """
    tried = variants(settings, *tuple_fields(settings))
    best, fits = None, []
    for number, variant in enumerate(tried):
        network = build(variant)
        fit = _fit(network, variant, ndcg, _Progress(number, len(tried), settings.epochs))
        if not settings.patience and len(tried) > 1:
            fit = Fit(variant, fit.epoch, fit.trained, ndcg(network))
        fits.append(fit)
        if best is None or (fit.ndcg or 0.0) > (best[1].ndcg or 0.0):
            best = network, fit
    assert best is not None  # no tuple of settings is empty
    return best[0], Trainings(best[1], tuple(fits))


@dataclass(frozen=True)
class _Progress:
    """Which of how many fits is under way, each of so many epochs at most."""

    number: int
    fits: int
    epochs: int

    def report(self, epoch: int, loss: float, quality: str) -> None:
        """An epoch is done."""
        fit = f"fit {self.number + 1} of {self.fits}, " if self.fits > 1 else ""
        text = f"{fit}epoch {epoch}: loss {loss:.4f}{quality}"
        report_fitting(self.number * self.epochs + epoch, self.fits * self.epochs, text)


def _fit(
    network: Network, settings: FittingSettings, ndcg: Callable[[Network], float], progress: _Progress
) -> Fit:
    """Train until validation has been no better for `patience` epochs. The network has the best weights
    afterwards and is in evaluation mode."""
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate, BETAS, fused=True)
    best_epoch, best, quality = 0, 0.0, ""
    weights: dict[str, torch.Tensor] = {}
    for epoch in range(1, settings.epochs + 1):
        loss = _train_epoch(network.train(), optimizer, epoch)
        network.eval()
        if settings.patience:
            value = ndcg(network)
            if not weights or value > best:
                best_epoch, best = epoch, value
                weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            quality = f", validation ndcg@10 {value:.4f}, best {best:.4f} in epoch {best_epoch}"
        progress.report(epoch, loss, quality)
        if settings.patience and epoch - best_epoch >= settings.patience:
            break
    if not settings.patience:
        return Fit(settings, epoch, epoch, None)
    network.load_state_dict(weights)
    return Fit(settings, best_epoch, epoch, best)


def _train_epoch(network: Network, optimizer: torch.optim.Optimizer, epoch: int) -> float:
    """One pass; returns the mean of the batches' losses. Raises SettingsError where one is not finite, and
    NothingLeft where there is no batch."""
    total, number = torch.zeros(()), 0
    for loss in network.losses(epoch):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
        number += 1
    if not number:
        raise NothingLeft(
            "the training part holds nothing to train on, not even one user with two events; give more "
            "interactions."
        )
    if not torch.isfinite(total):
        raise SettingsError(
            f"the training loss became {float(total)} in epoch {epoch}; set a lower learning_rate."
        )
    return float(total) / number


def torch_generator(seed: int, *names: str | int) -> torch.Generator:
    """As `seeds.generator`, for torch."""
    return torch.Generator().manual_seed(seeds.number(seed, *names))


def batches(number: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The rows 0 : number in random order, `size` at a time."""
    order = rng.permutation(number)
    return (order[start : start + size] for start in range(0, number, size))
