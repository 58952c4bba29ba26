"""Embeddings for symbols that join after training, without touching the tokenizer: free text can never yield
them.

The rows are added behind those there are, in a matrix that is larger than needed, so that adding one copies
nothing. Adding a symbol divides the same probability among more names: log-probabilities of all items fall by
one number per step, and their order does not change.

Legend: V rows of the matrix, H width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from shelftalk.models.backbone import Backbone

STRETCH = 1.5
"""A mean of embeddings is nearer to the mean of all than any of them, so that an item with it is hardly ever
recommended. Chosen on MovieLens (`benchmarks/cold_items.py`): with 1 no list had a new item, with 1.5 one
entry of 25 was new, with 2 a third, where a tenth of the catalogue was; the order among new items is the
same."""
SPARE = 512
"""Rows that are allocated at once beyond those needed."""


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

    @torch.no_grad()
    def put(
        self, symbol: str, mixture: tuple[np.ndarray, np.ndarray], away_from: np.ndarray | None = None
    ) -> None:
        """Give a symbol the embedding of a mixture: token ids and the weight of each. A symbol that is not
        known yet gets a new row; a known one is overwritten. `away_from`: token ids from whose mean the
        mixture's distance is multiplied by STRETCH."""
        ids, weights = mixture
        row = self._backbone.text_encoder.symbol_ids.get(symbol)
        if row is None:
            row = self._new_row()
            self._backbone.text_encoder.symbol_ids[symbol] = row
        for weight in self._matrices():
            taken = weight[torch.from_numpy(ids).to(weight.device)].float()
            mixed = torch.from_numpy(weights).to(taken) @ taken
            if away_from is not None:
                mean = weight[torch.from_numpy(away_from).to(weight.device)].float().mean(0)
                mixed = mean + STRETCH * (mixed - mean)
            weight[row] = mixed.to(weight.dtype)

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
