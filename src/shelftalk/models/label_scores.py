"""The log-probability of each label out of its logits, with as little kept for the way back as can be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

CHUNK = 16
"""Labels at a time on a processor: their scores in fp32, a few megabytes, stay in its cache."""
GPU_CHUNK = 1024


class LabelScores(torch.autograd.Function):
    """[L] float32 log-probabilities of `labels` [L] under `logits` [L, V] of any precision.

    What torch's cross-entropy computes, to the rounding. That one keeps an fp32 copy of the scores and makes
    its gradient in another; over a vocabulary of 49,000 they are most of a small model's memory. Here the
    logits themselves are kept, and the gradient is made from them some labels at a time, in the logits' own
    precision.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        labels = labels[:, None]
        picked, total = (
            torch.empty(len(labels), 1, dtype=torch.float32, device=logits.device) for _ in range(2)
        )
        for some, scores in _in_full_precision(logits):
            picked[some] = scores.gather(1, labels[some])
            highest = scores.amax(1, keepdim=True)
            total[some] = scores.sub_(highest).exp_().sum(1, keepdim=True).log_().add_(highest)
        ctx.save_for_backward(logits, labels, total)
        return (picked - total)[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor, None]:
        logits, labels, total = ctx.saved_tensors
        slopes, slope = torch.empty_like(logits), slope[:, None]
        for some, scores in _in_full_precision(logits):
            scores.sub_(total[some]).exp_().mul_(-slope[some])
            slopes[some] = scores.scatter_add_(1, labels[some], slope[some])
        return slopes, None


def _in_full_precision(logits: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Some rows at a time, their place beside them: an fp32 copy to work in, whose memory the next rows
    take."""
    chunk = CHUNK if logits.device.type == "cpu" else GPU_CHUNK
    room = torch.empty(min(chunk, len(logits)), logits.shape[1], dtype=torch.float32, device=logits.device)
    for start in range(0, len(logits), chunk):
        some = slice(start, start + chunk)
        rows = logits[some]
        yield some, room[: len(rows)].copy_(rows)
