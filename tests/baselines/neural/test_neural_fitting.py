"""The training loop: when it stops, which weights it keeps, what it tries and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from shelftalk.baselines.neural.fitting import Network, Trainings, fit_best
from shelftalk.baselines.neural.settings import FittingSettings, SasRecSettings, tuple_fields
from shelftalk.baselines.validation import variants
from shelftalk.errors import SettingsError
from shelftalk.runtime.progress import fitting_reported_to, report_fitting


class Counter(Network):
    """One weight that a step of an epoch moves; `weights` after each epoch are recorded by who measures."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def losses(self, epoch: int) -> Iterator[torch.Tensor]:
        yield -self.weight

    def item_scores(self, users: list[int], histories: list[list[int]]) -> torch.Tensor:
        return torch.zeros(len(users), 1)


def fitted(ndcg: list[float], **settings: object) -> tuple[Network, Trainings, list[float]]:
    """A fit whose validation gives these values in turn, and the weights that it measured."""
    seen: list[float] = []

    def measure(network: Network) -> float:
        seen.append(network.weight.item())
        return ndcg[len(seen) - 1]

    network, choice = fit_best(lambda variant: Counter(), SasRecSettings(**settings), measure)
    return network, choice, seen


def test_training_stops_when_patience_is_over_and_keeps_the_weights_of_the_best_epoch():
    network, choice, seen = fitted([0.1, 0.3, 0.2, 0.3, 0.29, 0.9], patience=3)
    assert choice.best.epoch == 2 and choice.best.trained == 5 and choice.best.ndcg == 0.3
    assert len(set(seen)) == 5 and network.weight.item() == seen[1]
    assert not network.training


def test_training_ends_at_the_last_epoch_and_keeps_the_best_one():
    network, choice, seen = fitted([0.2, 0.1, 0.15], patience=9, epochs=3)
    assert (choice.best.epoch, choice.best.trained) == (1, 3)
    assert network.weight.item() == seen[0]


def test_a_network_that_never_finds_anything_keeps_its_first_epoch():
    _, choice, _ = fitted([0.0, 0.0, 0.0], patience=2)
    assert (choice.best.epoch, choice.best.trained, choice.best.ndcg) == (1, 3, 0.0)


def test_without_patience_validation_is_not_looked_at_and_the_last_weights_are_kept():
    network, choice, seen = fitted([], patience=0, epochs=4, learning_rate=0.5)
    assert seen == [] and choice.best.ndcg is None
    assert (choice.best.epoch, choice.best.trained) == (4, 4)
    assert network.weight.item() == pytest.approx(4 * 0.5, rel=1e-3)  # Adam's step is the learning rate


def test_of_several_variants_the_best_on_validation_is_taken_and_of_equal_ones_the_first():
    _, choice, _ = fitted([0.1, 0.3, 0.3], patience=0, epochs=2, dropout=(0.1, 0.2, 0.3))
    assert choice.best.settings.dropout == (0.2,)
    assert [fit.ndcg for fit in choice.tried] == [0.1, 0.3, 0.3]


def test_every_combination_of_values_is_a_variant():
    settings = SasRecSettings(width=(8, 16), dropout=(0.1, 0.2), blocks=3)
    assert [(one.width, one.dropout, one.blocks) for one in variants(settings, *tuple_fields(settings))] == [
        ((8,), (0.1,), 3),
        ((8,), (0.2,), 3),
        ((16,), (0.1,), 3),
        ((16,), (0.2,), 3),
    ]


def test_a_loss_that_is_no_number_is_an_error_and_a_lower_learning_rate_its_remedy():
    class Steep(Counter):
        def losses(self, epoch: int) -> Iterator[torch.Tensor]:
            for _ in range(2):
                yield (1e3 * (self.weight - 1e-4).abs()).exp()  # inf from a weight of 0.09 on

    def fit(rate: float) -> None:
        settings = FittingSettings(learning_rate=rate, patience=0, epochs=2)
        fit_best(lambda variant: Steep(), settings, lambda network: 0.0)

    with pytest.raises(SettingsError, match=r"loss became inf in epoch 1; set a lower learning_rate\.$"):
        fit(1.0)
    fit(1e-4)


def test_every_epoch_is_reported_to_who_watches_and_to_nobody_else():
    reports: list[tuple[int, int, str]] = []
    watch: Callable[[int, int, str], None] = lambda *report: reports.append(report)  # noqa: E731
    with fitting_reported_to(watch):
        fitted([0.5, 0.25] * 2, patience=1, epochs=10, dropout=(0.1, 0.2))
    report_fitting(1, 2, "after the watch")
    assert [(done, total) for done, total, _ in reports] == [(1, 20), (2, 20), (11, 20), (12, 20)]
    assert reports[1][2] == (
        f"fit 1 of 2, epoch 2: loss {0 - 0.001:.4f}, validation ndcg@10 0.2500, best 0.5000 in epoch 1"
    )
