"""What the trained baselines minimise, each a mean over the rows of a batch.

Legend: P rows (positions of histories, or pairs of user and item), I items, N drawn items, G groups of rows,
H width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

LOGITS = 1 << 19
"""Logits computed at a time: 2 MB of float32, which stay in a core's cache."""


def softmax_cross_entropy(hidden: torch.Tensor, items: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over P of -log softmax(items hidden)[target], over all items, of `hidden` [P, H], `items` [I, H]
    and `targets` [P] rows of `items`.

    The logits [P, I] never exist as a whole, and no backward pass computes them again: their gradient is
    known as soon as they are.
    """
    result: torch.Tensor = _SoftmaxCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, items, targets
    )
    return result


class _SoftmaxCrossEntropy(torch.autograd.Function):
    """Loss and gradients, a few rows of logits at a time: d loss / d logits = (softmax - one-hot) / P."""

    @staticmethod
    def forward(
        context: Any, hidden: torch.Tensor, items: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        rows = max(1, LOGITS // len(items))
        total = hidden.new_zeros(())
        of_hidden, of_items = torch.empty_like(hidden), torch.zeros_like(items)
        for start in range(0, len(hidden), rows):
            some, wanted = hidden[start : start + rows], targets[start : start + rows, None]
            logits = some @ items.T  # [rows, I]
            log_sum = logits.logsumexp(1, keepdim=True)
            total += (log_sum - logits.gather(1, wanted)).sum()
            residual = logits.sub_(log_sum).exp_().scatter_add_(1, wanted, -torch.ones_like(log_sum))
            of_hidden[start : start + rows] = residual @ items
            of_items.addmm_(residual.T, some)
        context.save_for_backward(of_hidden / len(hidden), of_items / len(hidden))
        return total / len(hidden)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        of_hidden, of_items = context.saved_tensors
        return gradients[0] * of_hidden, gradients[0] * of_items, None


def sampled_cross_entropy(
    hidden: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, negatives: torch.Tensor
) -> torch.Tensor:
    """As `softmax_cross_entropy`, over the target and `negatives` [G, N], rows of `items`: each G-th part of
    the P rows, in their order, has one row of them. One that is the target is left out there, so that with
    all items drawn both are the same.

    Nothing corrects for the drawing: it is uniform, so the correction is the same for every wrong item.
    """
    group = -(-len(hidden) // len(negatives))  # rows that share their negatives
    owner = torch.arange(len(hidden)) // group
    grid = functional.pad(hidden, (0, 0, 0, group * len(negatives) - len(hidden)))
    wrong = (grid.unflatten(0, (-1, group)) @ items[negatives].mT).flatten(0, 1)[: len(hidden)]  # [P, N]
    wrong = wrong.masked_fill(negatives[owner] == targets[:, None], -torch.inf)
    right = (hidden * items[targets]).sum(1, keepdim=True)  # [P, 1]
    return (torch.cat([right, wrong], 1).logsumexp(1) - right[:, 0]).mean()


def bpr_loss(right: torch.Tensor, wrong: torch.Tensor) -> torch.Tensor:
    """Mean over P of -log sigmoid(right - wrong), the scores [P] of an item taken and of one that was not
    (Rendle et al., "BPR", UAI 2009)."""
    return functional.softplus(wrong - right).mean()


def cosine_contrastive_loss(
    right: torch.Tensor, wrong: torch.Tensor, counted: torch.Tensor, margin: float, weight: float
) -> torch.Tensor:
    """Mean over P of (1 - right) + weight mean over N of max(0, wrong - margin), of the cosines `right` [P]
    and `wrong` [P, N], of which those `counted` [P, N] enter the mean (Mao et al., "SimpleX", CIKM 2021)."""
    excess = ((wrong - margin).clamp_min(0) * counted).sum(1) / counted.sum(1).clamp_min(1)
    return ((1 - right) + weight * excess).mean()
