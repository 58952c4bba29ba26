"""Embeddings for symbols that join after training, without touching the tokenizer: free text can never yield
them.

The rows are added behind those there are, in a matrix that is larger than needed, so that adding one copies
nothing. Adding a symbol divides the same probability among more names: log-probabilities of all items fall by
one number per step, and their order does not change.

A mixture of embeddings is nearer to the mean of all than any of them, so that an item with it would hardly
ever be recommended. How much nearer is measured on trained items, each of which is mixed of others as a new
one would be, and made up for:

    embedding = mean + length / mixed length * (mixture - mean)

with the medians, over those trained items, of the distances of their embeddings and of their mixtures from
the mean. Nothing of it is a constant of one model.

Legend: V rows of the matrix, H width, S trained items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from shelftalk.models.backbone import Backbone

SPARE = 512
"""Rows that are allocated at once beyond those needed."""


Mixture = tuple[np.ndarray, np.ndarray]
"""Token ids and the weight of each, which sum to 1."""


@dataclass(frozen=True)
class Calibration:
    """`symbols` [I]: the token ids of trained items; `mixed`: for S of them their token id, and the mixture
    that each would get if it were new."""

    symbols: np.ndarray
    mixed: Sequence[tuple[int, Mixture]]


class SymbolRows:
    """The embedding matrices of a backbone, input and output, with rows for new symbols."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        model = backbone.model
        tables = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
        # an encoder and a decoder may each have a layer of their own over one matrix
        self._layers = [
            layer
            for layer in model.modules()
            if any(getattr(layer, "weight", None) is table for table in tables)
        ]
        self._rows = int(tables[0].shape[0])
        self._storage: dict[int, torch.Tensor] = {}
        self._measured: dict[int, tuple[torch.Tensor, float]] = {}

    @torch.no_grad()
    def put(self, symbol: str, mixture: Mixture, calibration: Calibration | None = None) -> None:
        """Give a symbol the embedding of a mixture. A symbol that is not known yet gets a new row; a known
        one is overwritten. With a `calibration` the embedding is as far from the mean of all as theirs
        are."""
        row = self._backbone.text_encoder.symbol_ids.get(symbol)
        if row is None:
            row = self._new_row()
            self._backbone.text_encoder.symbol_ids[symbol] = row
        for number, weight in enumerate(self._matrices()):
            mixed = _mixed(weight, mixture)
            if calibration is not None:
                mean, factor = self._stretch(number, weight, calibration)
                mixed = mean + factor * (mixed - mean)
            weight[row] = mixed.to(weight.dtype)

    def _stretch(
        self, number: int, weight: torch.Tensor, calibration: Calibration
    ) -> tuple[torch.Tensor, float]:
        """The mean embedding of the trained items in a matrix, and by what the distance of a mixture from it
        is multiplied; measured once, since trained embeddings do not change."""
        if number not in self._measured:
            mean = weight[torch.from_numpy(calibration.symbols).to(weight.device)].float().mean(0)
            own = torch.stack([(weight[token].float() - mean).norm() for token, _ in calibration.mixed])
            mixed = torch.stack([(_mixed(weight, one) - mean).norm() for _, one in calibration.mixed])
            factor = float(own.median() / mixed.median()) if float(mixed.median()) > 0 else 1.0
            self._measured[number] = mean, factor
        return self._measured[number]

    def ids(self, symbols: Sequence[str]) -> np.ndarray:
        """[symbols] their rows."""
        known = self._backbone.text_encoder.symbol_ids
        return np.array([known[symbol] for symbol in symbols], np.int64)

    def _matrices(self) -> list[torch.Tensor]:
        """Input and output weights, one where they are tied."""
        return list({id(layer.weight): layer.weight for layer in self._layers}.values())

    def _new_row(self) -> int:
        row, self._rows = self._rows, self._rows + 1
        views: dict[int, torch.nn.Parameter] = {}
        for layer in self._layers:
            weight = layer.weight
            if id(weight) not in views:
                views[id(weight)] = torch.nn.Parameter(self._longer(weight, row), requires_grad=False)
            layer.weight = views[id(weight)]
            for size in ("num_embeddings", "out_features"):
                if hasattr(layer, size):
                    setattr(layer, size, self._rows)
        return row

    def _longer(self, weight: torch.Tensor, row: int) -> torch.Tensor:
        """[row + 1, H] the same weights and one more row, a view of a larger matrix that is copied only when
        it is full."""
        start = weight.data_ptr()
        storage = self._storage.pop(start, None)
        if storage is None or len(storage) <= row:
            storage = weight.new_empty((row + SPARE, weight.shape[1]))
            storage[:row] = weight
        self._storage[storage.data_ptr()] = storage
        return storage[: row + 1]


def _mixed(weight: torch.Tensor, mixture: Mixture) -> torch.Tensor:
    """[H] float32."""
    ids, weights = mixture
    taken = weight[torch.from_numpy(ids).to(weight.device)].float()
    return torch.from_numpy(weights).to(taken) @ taken
