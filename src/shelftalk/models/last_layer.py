"""The last layer's feed-forward block, computed only where its result is read.

A layer's attention mixes positions; its feed-forward block works on each position by itself. Of the last
layer only those positions are read at which a token is predicted: in training those before labels, an eighth
of all, and the last one of a prompt. Legend: B samples, T tokens, H hidden width, L positions that are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def computed_at(block: torch.nn.Module, positions: torch.Tensor, counted: torch.Tensor) -> Iterator[None]:
    """Inside, `block` computes [B, T, H] at `positions` [L], indices into B * T, and returns 0 elsewhere.

    A position may occur more than once if only one of its entries is `counted` [L] (bool), as where
    labels are padded.
    """
    plain = block.forward

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden.flatten(0, 1)  # [B * T, H]
        computed = plain(rows[positions][None])[0] * counted[:, None]  # [L, H]
        zeros = torch.zeros(rows.shape, dtype=computed.dtype, device=computed.device)
        return zeros.index_add(0, positions, computed).view(hidden.shape)

    block.forward = forward
    try:
        yield
    finally:
        block.__dict__.pop("forward", None)
