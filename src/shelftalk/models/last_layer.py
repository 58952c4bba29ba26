"""The last layer's feed-forward block, computed only where its result is read.

A layer mixes places by its attention alone; its feed-forward block works on each place by itself. Of the last
layer only those places are read at which a token is predicted: in training the places before labels, an
eighth of all, after a prompt its end. Legend: B samples, T tokens, H hidden width, L places that are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def computed_at(block: torch.nn.Module, positions: torch.Tensor, counted: torch.Tensor) -> Iterator[None]:
    """Inside, `block` computes [B, T, H] at `places` [L], indices into B * T, and answers 0 elsewhere.

    A place may stand there more than once if all but one of its entries are not `counted` [L] (bool), as
    where labels are filled up.
    """
    plain = block.forward

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden.flatten(0, 1)
        some = plain(rows[positions][None])[0] * counted[:, None]  # [L, H]
        return (
            torch.zeros(rows.shape, dtype=some.dtype, device=some.device)
            .index_add(0, positions, some)
            .view(hidden.shape)
        )

    block.forward = forward
    try:
        yield
    finally:
        block.__dict__.pop("forward", None)
