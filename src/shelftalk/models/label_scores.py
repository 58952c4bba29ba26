"""The log-probability of each label out of its logits, with as little kept for the way back as can be."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

CHUNK = 64
"""Labels at a time: their logits in fp32, some megabytes, stay in the processor's cache."""


class LabelScores(torch.autograd.Function):
    """[L] float32 log-probabilities of `labels` [L] under `logits` [L, V] of any precision.

    What torch's cross-entropy computes, to the rounding. That one keeps an fp32 copy of the scores and makes its gradient in another;
    over a vocabulary of 49,000 they are most of a small model's memory. Here the logits themselves are kept, and the gradient is made
    from them some labels at a time, in the logits' own precision.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        labels = labels[:, None]
        picked, total = (torch.empty(len(labels), dtype=torch.float32, device=logits.device) for _ in range(2))
        for some in _chunks(len(labels)):
            scores = logits[some].float()
            total[some] = scores.logsumexp(-1)
            picked[some] = scores.gather(1, labels[some])[:, 0]
        ctx.save_for_backward(logits, labels, total)
        return picked - total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor, None]:
        logits, labels, total = ctx.saved_tensors
        slopes = torch.empty_like(logits)
        for some in _chunks(len(labels)):
            part = slope[some, None]
            probabilities = (logits[some].float() - total[some, None]).exp_()
            slopes[some] = probabilities.mul_(-part).scatter_add_(1, labels[some], part).to(logits.dtype)
        return slopes, None


def _chunks(number: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, number, CHUNK)]
