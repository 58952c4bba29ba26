"""The log-probability of each label from its logits, with little memory for the backward pass.

A label is one token, or several with weights that sum to 1: then it is their mean log-probability.

forward    log p[l] = sum over n of weights[l, n] * logits[l, tokens[l, n]] - logsumexp(logits[l])
backward   d/d logits[l, v] = grad[l] * (sum over n of weights[l, n] * 1{v = tokens[l, n]}
                                         - exp(logits[l, v] - logsumexp(logits[l])))
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

CHUNK = 16
"""Labels at a time on a processor: their logits in fp32, a few megabytes, stay in its cache."""
GPU_CHUNK = 1024


class LabelScores(torch.autograd.Function):
    """[L] float32 log-probabilities of `tokens` [L, N], their mean by `weights` [L, N], under `logits` [L, V]
    of any precision. Without weights N is 1.

    What torch's cross-entropy computes, up to rounding. That one keeps an fp32 copy of the logits and
    computes its gradient in another; over a vocabulary of 49,000 they are most of a small model's memory.
    Here the logits themselves are kept, and the gradient is computed from them some labels at a time, in the
    logits' own precision.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, tokens: torch.Tensor, weights: torch.Tensor | None
    ) -> torch.Tensor:
        of_label, total = (
            torch.empty(len(tokens), 1, dtype=torch.float32, device=logits.device) for _ in range(2)
        )
        for rows, scores in _in_full_precision(logits):
            of_tokens = scores.gather(1, tokens[rows])
            of_label[rows] = (
                of_tokens if weights is None else (of_tokens * weights[rows]).sum(1, keepdim=True)
            )
            highest = scores.amax(1, keepdim=True)
            total[rows] = scores.sub_(highest).exp_().sum(1, keepdim=True).log_().add_(highest)
        ctx.save_for_backward(logits, tokens, weights, total)
        return (of_label - total)[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        logits, tokens, weights, total = ctx.saved_tensors
        of_logits, gradient = torch.empty_like(logits), gradient[:, None]
        for rows, scores in _in_full_precision(logits):
            scores.sub_(total[rows]).exp_().mul_(-gradient[rows])
            of_tokens = gradient[rows] if weights is None else gradient[rows] * weights[rows]
            of_logits[rows] = scores.scatter_add_(1, tokens[rows], of_tokens)
        return of_logits, None, None


def _in_full_precision(logits: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Some rows at a time: which, and an fp32 copy of them to work in, whose memory the next rows reuse."""
    chunk = CHUNK if logits.device.type == "cpu" else GPU_CHUNK
    buffer = torch.empty(min(chunk, len(logits)), logits.shape[1], dtype=torch.float32, device=logits.device)
    for start in range(0, len(logits), chunk):
        rows = slice(start, start + chunk)
        values = logits[rows]
        yield rows, buffer[: len(values)].copy_(values)
