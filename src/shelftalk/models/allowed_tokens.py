"""Labels that are one of a set of tokens: the loss of a name's token over what a name can go on with there,
not over the whole vocabulary.

Example: names "red scarf", "red hat" and "blue cap" (a token per word). The first token of a name is one of
[blue, red], what follows "red" is one of [hat, scarf]. Of "red hat" after some prompt

    loss   -log p(red | blue, red) - log p(hat | hat, scarf)

Training computes logits for the tokens of names alone: of a language model with 49,000 words and a symbol for
each of 12,000 items a fifth.

Legend: S sets, A tokens that are in any of them, L labels, U different sets of a batch, H hidden width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from shelftalk.models.text_encoder import ANY_TOKEN, Encoded, joined_sets
from shelftalk.ragged import Ragged, concatenated_ranges, offsets_of


class AllowedTokens:
    """S sets of tokens: `tokens` [A] int64, ascending, are those of any set, and row s of `columns` are the
    positions in it of those of set s. Logits are divided by `temperature`."""

    def __init__(self, sets: Ragged, temperature: float = 1.0) -> None:
        """`sets` [S] rows of token ids; a row may be empty."""
        tokens, columns = np.unique(sets.values, return_inverse=True)
        self.tokens = torch.from_numpy(tokens.astype(np.int64))
        self.columns = Ragged(columns, sets.offsets)
        self.temperature = temperature


def labels_by_set(
    samples: Sequence[Encoded],
    kept: np.ndarray,
    allowed: AllowedTokens | None,
    step: int,
) -> dict[str, torch.Tensor]:
    """Which labels of a batch are of which set, as tensors; empty where no sample has sets.

    `any_rows`, `set_rows`: the numbers of the labels [L] that may be any token, and of those that are of a
    set, both padded with -1 to a multiple of `step`. `set_of_row`: of the latter, the number of its set among
    the U of the batch. `set_offsets` [U + 1] and `set_columns`: the tokens of those, as positions in
    `allowed.tokens`.

    `kept`: which of the tokens that bear loss in the samples are labels; L may be padded. Raises ValueError
    where samples have sets and the backbone was not told what they hold.
    """
    sets = joined_sets(samples)
    if sets is None:
        return {}
    if allowed is None:
        raise ValueError("samples have sets of allowed tokens, and backbone.allowed_tokens is None")
    sets = sets[kept]  # without the labels that only fill up, of which no logits are needed
    any_rows, set_rows = np.flatnonzero(sets == ANY_TOKEN), np.flatnonzero(sets != ANY_TOKEN)
    distinct, of_row = np.unique(sets[set_rows], return_inverse=True)
    lengths = allowed.columns.lengths[distinct]
    columns = allowed.columns.values[concatenated_ranges(allowed.columns.offsets[distinct], lengths)]
    missing = -len(set_rows) % step
    return {
        "any_rows": torch.from_numpy(np.pad(any_rows, (0, -len(any_rows) % step), constant_values=-1)),
        "set_rows": torch.from_numpy(np.pad(set_rows, (0, missing), constant_values=-1)),
        "set_of_row": torch.from_numpy(np.pad(of_row, (0, missing))),
        "set_offsets": torch.from_numpy(offsets_of(lengths)),
        "set_columns": torch.from_numpy(columns),
    }


def masked_to_sets(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits [N, A] of the labels `set_rows`, minus infinity for what is not in a label's set."""
    offsets, columns = batch["set_offsets"], batch["set_columns"]
    if len(columns) == (len(offsets) - 1) * logits.shape[1]:
        return logits  # every set holds all tokens
    outside = torch.ones(len(offsets) - 1, logits.shape[1], dtype=torch.bool, device=logits.device)
    of_column = torch.repeat_interleave(torch.arange(len(offsets) - 1, device=logits.device), offsets.diff())
    outside[of_column, columns] = False
    return logits.masked_fill(outside[batch["set_of_row"]], -torch.inf)


@contextmanager
def restricted_to(layer: torch.nn.Linear, tokens: torch.Tensor) -> Iterator[None]:
    """Inside, the output layer computes the logits of `tokens` [A] alone."""

    def forward(states: torch.Tensor) -> torch.Tensor:
        bias: Any = None if layer.bias is None else layer.bias[tokens]
        return torch.nn.functional.linear(states, layer.weight[tokens], bias)

    layer.forward = forward  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        layer.__dict__.pop("forward", None)
