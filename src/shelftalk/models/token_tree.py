"""Prompts that have been read, the tree of tokens decoded after each of them, and the key-value cache
of that tree.

A node is one token after the prompt or after another node, and attends to the prompt and to its own ancestors
alone. Example: after one prompt, "red" (node 0), then "scarf" (1) and "hat" (2) both after "red", decoded
with parents [-1, 0, 0]:

    entry      0 root   1 red   2 scarf   3 hat        parent [0, 0, 1, 1], depth [0, 1, 2, 2]
    red           x       x
    scarf         x       x        x                   the ancestor mask that `TokenTree.extend` returns
    hat           x       x                  x

`crop(1)` then keeps "red" alone, in the tree and in the cache.

Legend: R requests, N new nodes, K entries: the root (the end of the prompt, or a decoder's start token) and
all nodes so far. Node n is entry n + 1. H hidden width, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from transformers.cache_utils import Cache, DynamicLayer

if TYPE_CHECKING:
    from shelftalk.models.backbone import Backbone


class Prefilled(ABC):
    """Prompts that have been read, and the tree of tokens decoded after each of them.

    `states` [R, H]: the final hidden states at the prompts' ends, which the output layer of `backbone` reads.
    """

    backbone: Backbone
    states: torch.Tensor
    tree: TokenTree

    @cached_property
    def log_probs(self) -> torch.Tensor:
        """[R, V] float32 nats: what may follow each prompt."""
        return self.backbone.log_probs(self.states)

    def extend(self, parents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """As `decode`, but [R, N, V] float32: the log-probabilities of what may follow each new node."""
        return self.backbone.log_probs(self.decode(parents, tokens))

    @abstractmethod
    def decode(self, parents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Add N nodes to each request's tree: node n of request r is token `tokens[r, n]` after node
        `parents[r, n]`.

        Nodes are numbered per request in the order in which they were decoded, from 0, over all calls; -1 is
        the end of the prompt; a parent comes before its children, in this call or an earlier one. Returns [R,
        N, H]: the final hidden states of the new nodes.
        """

    def crop(self, nodes: int) -> None:
        """Trim tree and cache to the first `nodes` nodes of every request: the next node decoded has
        that number."""
        self.tree.crop(nodes)

    @abstractmethod
    def select(self, rows: torch.Tensor) -> Prefilled:
        """The same with the requests `rows` [R'] only (repeats allowed). Either can be decoded on without
        the other."""


@dataclass(eq=False)
class TokenTree:
    """`parent` [R, K] int64: the entry above each entry, the root above itself. `depth` [R, K] int64: steps
    below the root. `cache`: keys and values of `prompt_length` entries (the prompt's, the root included),
    then of one entry per node."""

    parent: torch.Tensor
    depth: torch.Tensor
    cache: Cache
    prompt_length: int

    @classmethod
    def empty(cls, requests: int, device: torch.device, cache: Cache, prompt_length: int) -> TokenTree:
        """Roots alone."""
        parent, depth = (torch.zeros(requests, 1, dtype=torch.int64, device=device) for _ in range(2))
        return cls(parent, depth, cache, prompt_length)

    def extend(self, parents: torch.Tensor) -> torch.Tensor:
        """Add nodes after `parents` [R, N], which number nodes from 0 and the root as -1. Returns the
        ancestor mask [R, N, K + N] bool: the entries on the path from the root to each new node, both ends
        included. The cache follows when the model is called."""
        before = self.parent.shape[1]
        self.parent = torch.cat([self.parent, parents + 1], dim=1)
        entry = torch.arange(before, self.parent.shape[1], device=parents.device).expand(parents.shape)
        mask = torch.zeros(*parents.shape, self.parent.shape[1], dtype=torch.bool, device=parents.device)
        mask[:, :, 0] = True
        # one step up per round, for all requests and nodes at once, until all are at the root
        while entry.any():
            mask.scatter_(2, entry[:, :, None], True)
            entry = self.parent.gather(1, entry)
        self.depth = torch.cat([self.depth, mask.sum(2) - 1], dim=1)
        return mask

    def crop(self, nodes: int) -> None:
        """Keep the first `nodes` nodes, in the tree and in every layer of the cache."""
        self.parent, self.depth = self.parent[:, : nodes + 1], self.depth[:, : nodes + 1]
        for layer in self.cache.layers:
            # a negative number: how many entries to drop
            layer.crop(min(0, self.prompt_length + nodes - layer.get_seq_length()))

    def select(self, rows: torch.Tensor) -> TokenTree:
        """The trees of the requests `rows` [R'], with a cache of their own."""
        cache = select_rows(self.cache, rows)
        return TokenTree(self.parent[rows], self.depth[rows], cache, self.prompt_length)


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, [R, heads, K, d] each, in buffers with spare capacity.

    transformers' own layer copies all there is at every call: a seventh of a call of the nano model with 20
    nodes a request.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buffers: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append to what is there; returns views of all of it."""
        # The prompt: no spare capacity yet, since perhaps nothing is decoded after it.
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        before, after = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if not self._buffers or self._buffers[0].shape[2] < after:
            self._buffers = [_with_capacity(kept, 2 * after) for kept in (self.keys, self.values)]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, before:after] = new
        self.keys, self.values = (buffer[:, :, :after] for buffer in self._buffers)
        return self.keys, self.values


def _with_capacity(kept: torch.Tensor, length: int) -> torch.Tensor:
    """A copy of keys or values in a buffer for `length` of them."""
    buffer = kept.new_empty(*kept.shape[:2], length, kept.shape[3])
    buffer[:, :, : kept.shape[2]] = kept
    return buffer


def new_cache() -> Cache:
    """An empty key-value cache, for any number of layers."""
    return Cache(layer_class_to_replicate=PreallocatedLayer)


def select_rows(cache: Cache, rows: torch.Tensor) -> Cache:
    """A copy of a cache, of the requests `rows` alone."""
    selected = new_cache()
    for number, layer in enumerate(cache.layers):
        selected.update(layer.keys[rows], layer.values[rows], number)
    return selected


def additive_mask(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """0 where a key is visible, the smallest number where not: a mask that every implementation of
    attention takes."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)
