"""Decoder-only backbones: Llama, Qwen, SmolLM2 and the nano model. Legend in backbone.py; P prompt tokens, M
nodes so far."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from shelftalk.models.allowed_tokens import labels_by_set
from shelftalk.models.backbone import (
    NOT_COUNTED,
    Backbone,
    padded,
    padded_labels,
    soft_labels,
)
from shelftalk.models.last_layer import computed_at
from shelftalk.models.text_encoder import Encoded
from shelftalk.models.token_tree import Prefilled, TokenTree, additive_mask, new_cache


class DecoderOnly(Backbone):
    """Source and target are one text, read from left to right."""

    family = "decoder-only"

    def collate(self, samples: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        """`input_ids` [B, T], padded on the right, where a causal model needs no mask; `label_positions` [L]
        index into B * T: the token *before* each label; `labels` [L]. Where several samples share a row,
        `position_ids` [B, T] too."""
        step, most = self.padding.length, self.positions
        ids, _ = padded([sample.ids for sample in samples], self.pad, step, most=most)
        loss, _ = padded([sample.bears_loss for sample in samples], 0, step, most=most)
        bears_loss = loss.flatten().bool()
        for row, sample in enumerate(samples):
            loss[row, list(sample.starts)] = 0  # no token precedes a first one
        positions = loss.flatten().nonzero().squeeze(1)
        label_positions, labels = padded_labels(positions - 1, ids.flatten()[positions], self.padding.labels)
        batch = {"input_ids": ids, "label_positions": label_positions, "labels": labels}
        kept = loss.flatten().bool()[bears_loss].numpy()
        batch |= soft_labels(samples, kept, labels)
        batch |= labels_by_set(samples, kept, self.allowed_tokens, self.padding.labels)
        if any(len(sample.starts) > 1 for sample in samples):
            batch["position_ids"] = _restarting_positions([sample.starts for sample in samples], ids.shape[1])
        return batch

    def label_log_probs(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        positions = batch["label_positions"]
        with self.precision(), self._last_layer_at(positions, batch["labels"] != NOT_COUNTED):
            # with neither mask nor cache, transformers keeps samples of one row apart where their positions
            # restart
            inputs = {
                "input_ids": batch["input_ids"],
                "position_ids": batch.get("position_ids"),
                "use_cache": False,
            }
            hidden = self.model.model(**inputs).last_hidden_state  # [B, T, H]
            states = hidden.flatten(0, 1)[positions]  # [L, H]: logits are computed at labels alone
            return self._scores_of_labels(states, batch)

    @torch.no_grad()
    def prefill(self, prompts: Sequence[Encoded]) -> Prefilled:
        """Prompts padded on the left, so that all of them end in the last column."""
        rows = [prompt.ids for prompt in prompts]
        ids, real = padded(rows, self.pad, self.padding.length, left=True, most=self.positions)
        ids, real = ids.to(self.device), real.to(self.device)
        positions = (real.cumsum(1) - 1).clamp(min=0)
        cache = new_cache()
        ends = torch.arange(1, len(ids) + 1, device=self.device) * ids.shape[1] - 1
        with self.precision(), self._last_layer_at(ends, torch.ones_like(ends, dtype=torch.bool)):
            hidden = self.model.model(
                ids, attention_mask=real.long(), position_ids=positions, past_key_values=cache, use_cache=True
            ).last_hidden_state
        roots = TokenTree.empty(len(real), real.device, cache, prompt_length=real.shape[1])
        return _Tree(self, real, hidden[:, -1], roots)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.model.lm_head(states)
        return result

    def _last_layer_at(self, positions: torch.Tensor, counted: torch.Tensor) -> AbstractContextManager[Any]:
        """Inside, the last layer's feed-forward block computes `positions` alone (see computed_at). Only in
        full precision on a processor, where it saves an eighth of a step; and not with gradient
        checkpointing, which computes the layer again in the backward pass, outside of this."""
        layers: Any = getattr(self.model.model, "layers", None)  # as Llama and similar models name them
        block = getattr(layers[-1], "mlp", None) if layers else None
        if block is None or not self.full_precision_on_cpu:
            return nullcontext()
        if getattr(layers[-1], "gradient_checkpointing", False):
            return nullcontext()
        return computed_at(block, positions, counted)


def _restarting_positions(starts: Sequence[tuple[int, ...]], width: int) -> torch.Tensor:
    """[B, T] positions counted from the start of the sample that each token belongs to."""
    positions = torch.arange(width).repeat(len(starts), 1)
    for row, sample_starts in enumerate(starts):
        for start in sample_starts:
            positions[row, start:] = torch.arange(width - start)
    return positions


class _Tree(Prefilled):
    """Nodes are entries of the key-value cache after their prompt and attend to their ancestors alone:
    nothing is copied per beam."""

    backbone: DecoderOnly

    def __init__(
        self,
        backbone: DecoderOnly,
        real: torch.Tensor,  # [R, P] bool
        states: torch.Tensor,  # [R, H]
        tree: TokenTree,
    ) -> None:
        self.backbone = backbone
        self.real = real
        self.states = states
        self.tree = tree

    @torch.no_grad()
    def decode(self, parents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        ancestors = self.tree.extend(parents)[:, :, 1:]  # [R, N, M + N]: the root is the prompt
        prompt = self.real[:, None, :].expand(-1, ancestors.shape[1], -1)  # [R, N, P]
        visible = torch.cat([prompt, ancestors], dim=2)[:, None]  # [R, 1, N, P + M + N]
        dtype = torch.bfloat16 if self.backbone.bf16 else self.backbone.model.dtype
        with self.backbone.precision():
            result: torch.Tensor = self.backbone.model.model(
                tokens,
                attention_mask=additive_mask(visible, dtype),
                position_ids=self.real.sum(1, keepdim=True) + ancestors.sum(2) - 1,
                past_key_values=self.tree.cache,
                use_cache=True,
            ).last_hidden_state
            return result

    def select(self, rows: torch.Tensor) -> _Tree:
        """Copies the cache; meant for the few moments when requests are finished."""
        return _Tree(self.backbone, self.real[rows], self.states[rows], self.tree.select(rows))
