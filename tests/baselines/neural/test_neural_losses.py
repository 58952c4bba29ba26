"""The losses by hand, by torch's own, and by the formulas of their papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from shelftalk.baselines.neural import losses
from shelftalk.baselines.neural.losses import (
    bpr_loss,
    cosine_contrastive_loss,
    sampled_cross_entropy,
    softmax_cross_entropy,
)

ITEMS = torch.tensor([[0.0], [math.log(2)], [math.log(5)]])
"""Logits after the hidden state 1: of the softmax 1/8, 2/8, 5/8."""


def drawn(rows: int, items: int, width: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, item vectors and targets, in double precision."""
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, width, generator=generator, dtype=torch.float64, requires_grad=True)
    vectors = torch.randn(items, width, generator=generator, dtype=torch.float64, requires_grad=True)
    return hidden, vectors, torch.randint(items, (rows,), generator=generator)


def test_cross_entropy_is_minus_the_log_of_the_targets_share():
    hidden = torch.ones(2, 1)
    loss = softmax_cross_entropy(hidden, ITEMS, torch.tensor([2, 0]))
    assert float(loss) == pytest.approx((math.log(8 / 5) + math.log(8)) / 2)


@pytest.mark.parametrize("logits", [1, 40, 1 << 19])
def test_cross_entropy_and_its_gradients_are_torchs_however_many_logits_are_computed_at_a_time(
    logits: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(losses, "LOGITS", logits)
    hidden, items, targets = drawn(rows=7, items=11)
    ours = torch.autograd.grad(3 * softmax_cross_entropy(hidden, items, targets), (hidden, items))
    theirs = torch.autograd.grad(3 * functional.cross_entropy(hidden @ items.T, targets), (hidden, items))
    assert softmax_cross_entropy(hidden, items, targets).item() == pytest.approx(
        functional.cross_entropy(hidden @ items.T, targets).item(), abs=1e-12
    )
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_cross_entropy_of_large_logits_is_finite():
    assert float(softmax_cross_entropy(torch.full((1, 1), 1e4), ITEMS, torch.tensor([0]))) == pytest.approx(
        1e4 * math.log(5)
    )


@pytest.mark.parametrize("groups", [1, 2, 4, 6, 7])
def test_sampled_cross_entropy_with_all_items_drawn_is_that_over_all_items(groups: int):
    hidden, items, targets = drawn(rows=6, items=9)
    sampled = sampled_cross_entropy(hidden, items, targets, torch.arange(9).repeat(groups, 1))
    full = softmax_cross_entropy(hidden, items, targets)
    assert sampled.item() == pytest.approx(full.item(), abs=1e-12)
    for one, other in zip(
        torch.autograd.grad(sampled, (hidden, items)),
        torch.autograd.grad(full, (hidden, items)),
        strict=True,
    ):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_sampled_cross_entropy_compares_with_what_was_drawn_alone():
    loss = sampled_cross_entropy(torch.ones(1, 1), ITEMS, torch.tensor([2]), torch.tensor([[0, 0, 2]]))
    assert float(loss) == pytest.approx(math.log((5 + 1 + 1) / 5))


def test_each_group_of_rows_is_compared_with_its_own_drawn_items():
    loss = sampled_cross_entropy(torch.ones(3, 1), ITEMS, torch.tensor([0, 0, 0]), torch.tensor([[1], [2]]))
    expected = [math.log(1 + 2), math.log(1 + 2), math.log(1 + 5)]
    assert float(loss) == pytest.approx(sum(expected) / 3)


def test_the_pairwise_gradient_is_that_of_the_paper():
    right, wrong = torch.tensor([0.3, -1.0], requires_grad=True), torch.tensor([0.1, 2.0])
    loss = bpr_loss(right, wrong)
    difference = np.array([0.2, -3.0])
    assert loss.item() == pytest.approx(np.mean(np.log(1 + np.exp(-difference))), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, right)
    # d / dx -ln sigmoid(x) = -exp(-x) / (1 + exp(-x))
    expected = -np.exp(-difference) / (1 + np.exp(-difference)) / 2
    assert gradient.numpy() == pytest.approx(expected, rel=1e-6)


def test_the_cosine_contrastive_loss_counts_wrong_items_above_the_margin():
    right = torch.tensor([0.9, 0.2])
    wrong = torch.tensor([[0.5, 0.1, 0.8], [0.3, 0.9, -1.0]])
    counted = torch.tensor([[True, True, False], [True, True, True]])
    loss = cosine_contrastive_loss(right, wrong, counted, margin=0.4, weight=6.0)
    first, second = 0.1 + 6 * (0.1 + 0) / 2, 0.8 + 6 * (0 + 0.5 + 0) / 3
    assert loss.item() == pytest.approx((first + second) / 2)


def test_a_user_of_whom_no_wrong_item_counts_costs_what_the_right_one_does():
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    assert cosine_contrastive_loss(torch.tensor([0.75]), torch.ones(1, 2), nothing, 0.0, 9.0) == 0.25
