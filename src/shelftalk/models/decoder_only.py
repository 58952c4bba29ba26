"""Decoder-only backbones: Llama, Qwen, SmolLM2 and the nano model. Legend in backbone.py; P prompt tokens, M nodes so far."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers.cache_utils import DynamicCache

from shelftalk.models.backbone import Backbone, Encoded, Prefilled, padded, padded_labels, picked_log_probs


class DecoderOnly(Backbone):
    """Source and target are one text, read from left to right."""

    family = "decoder-only"

    def collate(self, samples: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        """`input_ids` [B, T], padded on the right, where a causal model needs no mask; `label_places` [L] index into B * T:
        the token *before* each label; `labels` [L]."""
        ids, _ = padded([sample.ids for sample in samples], self.pad)
        loss, _ = padded([sample.bears_loss for sample in samples], 0)
        loss[:, 0] = 0  # nothing stands before the first token
        places = loss.flatten().nonzero().squeeze(1)
        label_places, labels = padded_labels(places - 1, ids.flatten()[places])
        return {"input_ids": ids, "label_places": label_places, "labels": labels}

    def label_log_probs(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with self.precision():
            hidden = self.model.model(batch["input_ids"], use_cache=False).last_hidden_state  # [B, T, H]
            spoken = hidden.flatten(0, 1)[batch["label_places"]]  # [L, H]: the vocabulary is met only where there is a label
            return picked_log_probs(self.model.lm_head(spoken), batch["labels"])

    @torch.no_grad()
    def prefill(self, prompts: Sequence[Encoded]) -> Prefilled:
        """Prompts padded on the left, so that all of them end at one place."""
        ids, real = padded([prompt.ids for prompt in prompts], self.pad, left=True)
        ids, real = ids.to(self.device), real.to(self.device)
        positions = (real.cumsum(1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config)
        with self.precision():
            hidden = self.model.model(
                ids, attention_mask=real.long(), position_ids=positions, past_key_values=cache, use_cache=True
            ).last_hidden_state
            log_probs = self._log_probs(hidden[:, -1])
        return _Tree(self, cache, real, log_probs)

    def _log_probs(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., H] -> [..., V] float32, in the weights' own precision: bf16 would make neighbours in a ranking equal."""
        with torch.autocast(self.device.type, enabled=False):
            return self.model.lm_head(hidden.to(self.model.dtype)).float().log_softmax(-1)


class _Tree(Prefilled):
    """Nodes live in the key-value cache behind their prompt and see their ancestors alone: nothing is copied per beam."""

    def __init__(
        self,
        backbone: DecoderOnly,
        cache: DynamicCache,
        real: torch.Tensor,  # [R, P] bool
        log_probs: torch.Tensor,  # [R, V]
    ) -> None:
        self.backbone = backbone
        self.cache = cache
        self.real = real
        self.log_probs = log_probs
        self.sees = torch.zeros(len(real), 0, 0, dtype=torch.bool, device=real.device)  # [R, M, M] node sees node

    @torch.no_grad()
    def extend(self, parents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        before = self.sees.shape[1]
        self.sees = self._grown(parents)
        new = self.sees[:, before:]  # [R, N, M + N]
        prompt = self.real[:, None, :].expand(-1, new.shape[1], -1)  # [R, N, P]
        visible = torch.cat([prompt, new], dim=2)[:, None]  # [R, 1, N, P + M + N]
        positions = self.real.sum(1, keepdim=True) + new.sum(2) - 1
        with self.backbone.precision():
            hidden = self.backbone.model.model(
                tokens,
                attention_mask=self._additive(visible),
                position_ids=positions,
                past_key_values=self.cache,
                use_cache=True,
            ).last_hidden_state
            return self.backbone._log_probs(hidden)

    def select(self, rows: torch.Tensor) -> _Tree:
        """A copy of the cache; meant for the few moments when requests leave."""
        cache = DynamicCache(config=self.backbone.model.config)
        for number, layer in enumerate(self.cache.layers):
            cache.update(layer.keys[rows], layer.values[rows], number)
        tree = _Tree(self.backbone, cache, self.real[rows], self.log_probs[rows])
        tree.sees = self.sees[rows]
        return tree

    def _grown(self, parents: torch.Tensor) -> torch.Tensor:
        """[R, M + N, M + N]: a node sees what its parent sees, and itself."""
        requests, number = parents.shape
        before = self.sees.shape[1]
        grown = torch.zeros(requests, before + number, before + number, dtype=torch.bool, device=parents.device)
        grown[:, :before, :before] = self.sees
        rows = torch.arange(requests, device=parents.device)
        for node in range(number):  # over new nodes, vectorised over requests: a parent may be in this call
            parent = parents[:, node]
            inherited = grown[rows, parent.clamp(min=0)] & (parent >= 0)[:, None]
            inherited[:, before + node] = True
            grown[:, before + node] = inherited
        return grown

    def _additive(self, visible: torch.Tensor) -> torch.Tensor:
        """0 where a key is visible, the smallest number where not."""
        kind = torch.bfloat16 if self.backbone.bf16 else self.backbone.model.dtype
        return torch.zeros(visible.shape, dtype=kind, device=visible.device).masked_fill_(~visible, torch.finfo(kind).min)
