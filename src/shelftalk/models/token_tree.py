"""The tree of tokens behind each prompt: who stands above whom, and key-value caches that can be cut and chosen from.

Legend: R requests, N new nodes, K places (the root and all nodes so far). Place 0 is the root: the end of the prompt, or the
start token of a decoder. Node n stands at place n + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers.cache_utils import Cache, DynamicLayer


@dataclass(eq=False)
class TokenTree:
    """`above` [R, K] int64: the place right above each place, the root above itself. `depth` [R, K] int64: steps below the root."""

    above: torch.Tensor
    depth: torch.Tensor

    @classmethod
    def of_roots(cls, requests: int, device: torch.device) -> TokenTree:
        """Nothing has been grown yet."""
        return cls(*(torch.zeros(requests, 1, dtype=torch.int64, device=device) for _ in range(2)))

    def grow(self, parents: torch.Tensor) -> torch.Tensor:
        """Add nodes behind `parents` [R, N], which count nodes from 0 and the root as -1. Returns [R, N, K + N] bool: the places
        that each new node sees, which are those on its way from the root, itself among them."""
        before = self.above.shape[1]
        self.above = torch.cat([self.above, parents + 1], dim=1)
        place = torch.arange(before, self.above.shape[1], device=parents.device).expand(parents.shape)
        sees = torch.zeros(*parents.shape, self.above.shape[1], dtype=torch.bool, device=parents.device)
        sees[:, :, 0] = True
        while place.any():  # over the steps of the longest way up, vectorised over requests and nodes
            sees.scatter_(2, place[:, :, None], True)
            place = self.above.gather(1, place)
        self.depth = torch.cat([self.depth, sees.sum(2) - 1], dim=1)
        return sees

    def crop(self, nodes: int) -> None:
        """Keep the first `nodes` nodes."""
        self.above, self.depth = self.above[:, : nodes + 1], self.depth[:, : nodes + 1]

    def select(self, rows: torch.Tensor) -> TokenTree:
        """The trees of the requests `rows` [R']."""
        return TokenTree(self.above[rows], self.depth[rows])


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer, [R, heads, K, d] each, in memory with room to spare.

    transformers' own layer copies all there is at every call: a seventh of a call of the nano model with 20 nodes a request.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rooms: list[torch.Tensor] = []

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor, torch.Tensor]:
        """Write behind what is there; returns views of all of it."""
        if not self.is_initialized:  # a prompt, behind which perhaps nothing is ever grown: no room yet
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        before, after = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if not self._rooms or self._rooms[0].shape[2] < after:
            self._rooms = [_with_room(kept, 2 * after) for kept in (self.keys, self.values)]
        for room, new in zip(self._rooms, (key_states, value_states), strict=True):
            room[:, :, before:after] = new
        self.keys, self.values = (room[:, :, :after] for room in self._rooms)
        return self.keys, self.values


def _with_room(kept: torch.Tensor, length: int) -> torch.Tensor:
    """A copy of keys or values in memory for `length` of them."""
    room = kept.new_empty(*kept.shape[:2], length, kept.shape[3])
    room[:, :, : kept.shape[2]] = kept
    return room


def new_cache() -> Cache:
    """An empty key-value cache, for any number of layers."""
    return Cache(layer_class_to_replicate=RoomyLayer)


def selected(cache: Cache, rows: torch.Tensor) -> Cache:
    """A copy of a cache, of the requests `rows` alone."""
    chosen = new_cache()
    for number, layer in enumerate(cache.layers):
        chosen.update(layer.keys[rows], layer.values[rows], number)
    return chosen


def crop(cache: Cache, length: int) -> None:
    """Keep the first `length` keys and values of every layer."""
    for layer in cache.layers:
        layer.crop(min(0, length - layer.get_seq_length()))


def additive(sees: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    """0 where a key is seen, the smallest number where not: a mask that every attention understands."""
    return torch.zeros(sees.shape, dtype=kind, device=sees.device).masked_fill_(~sees, torch.finfo(kind).min)
