"""Encoder-decoder backbones: the T5 family. Legend in backbone.py; S source tokens, D depth of a node."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from shelftalk.models.backbone import Backbone, Encoded, Prefilled, padded, padded_labels, picked_log_probs


class EncoderDecoder(Backbone):
    """The text before the first token that bears loss is the source; the rest is the target."""

    family = "encoder-decoder"

    def collate(self, samples: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` [B, S]; `decoder_input_ids` [B, D], shifted right behind the start token;
        `label_places` [L] index into B * D; `labels` [L]."""
        cuts = [sample.prompt_length for sample in samples]
        source, real = padded([self._source(sample.ids[:cut]) for sample, cut in zip(samples, cuts, strict=True)], self.pad)
        target, _ = padded([sample.ids[cut:] for sample, cut in zip(samples, cuts, strict=True)], self.pad)
        loss, _ = padded([sample.bears_loss[cut:] for sample, cut in zip(samples, cuts, strict=True)], 0)
        places = loss.flatten().nonzero().squeeze(1)
        label_places, labels = padded_labels(places, target.flatten()[places])
        return {
            "input_ids": source,
            "attention_mask": real.long(),
            "decoder_input_ids": torch.cat([torch.full_like(target[:, :1], self._start), target[:, :-1]], dim=1),
            "label_places": label_places,
            "labels": labels,
        }

    def label_log_probs(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with self.precision():
            encoded = self.model.encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            hidden = self._decode(encoded.last_hidden_state, batch["attention_mask"], batch["decoder_input_ids"])  # [B, D, H]
            spoken = hidden.flatten(0, 1)[batch["label_places"]]  # [L, H]
            return picked_log_probs(self._logits(spoken), batch["labels"])

    @torch.no_grad()
    def prefill(self, prompts: Sequence[Encoded]) -> Prefilled:
        """Encode the sources once."""
        source, real = padded([self._source(prompt.ids) for prompt in prompts], self.pad)
        source, mask = source.to(self.device), real.long().to(self.device)
        with self.precision():
            states = self.model.encoder(input_ids=source, attention_mask=mask).last_hidden_state
        return _Paths(self, states, mask)

    def _source(self, ids: np.ndarray) -> np.ndarray:
        """T5 closes a source with </s>; an empty one would leave nothing to attend to."""
        return np.append(ids, self.tokenizer.eos_token_id)

    @property
    def _start(self) -> int:
        return int(self.model.config.decoder_start_token_id)

    def _decode(self, states: torch.Tensor, mask: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """[B, D, H]: decoder states over encoder states [B, S, H]."""
        return self.model.decoder(
            input_ids=ids, encoder_hidden_states=states, encoder_attention_mask=mask, use_cache=False
        ).last_hidden_state

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.model.config.scale_decoder_outputs:  # T5 1.0 ties its embeddings and rescales; FLAN-T5 does neither
            hidden = hidden * self.model.model_dim**-0.5
        return self.model.lm_head(hidden)


class _Paths(Prefilled):
    """Each node as the path from the start token: T5's relative positions leave no room for a tree in one sequence."""

    def __init__(self, backbone: EncoderDecoder, states: torch.Tensor, mask: torch.Tensor) -> None:
        self.backbone = backbone
        self.states = states  # [R, S, H]
        self.mask = mask  # [R, S]
        self.paths: list[list[tuple[int, ...]]] = [[] for _ in range(len(states))]  # tokens from the prompt to each node
        self.log_probs = self._after([[()] for _ in self.paths])[:, 0]

    @torch.no_grad()
    def extend(self, parents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        before = len(self.paths[0])
        for paths, row_parents, row_tokens in zip(self.paths, parents.tolist(), tokens.tolist(), strict=True):
            for parent, token in zip(row_parents, row_tokens, strict=True):
                paths.append((*(paths[parent] if parent >= 0 else ()), token))
        return self._after([paths[before:] for paths in self.paths])

    def select(self, rows: torch.Tensor) -> _Paths:
        chosen = _Paths.__new__(_Paths)
        chosen.backbone, chosen.states, chosen.mask = self.backbone, self.states[rows], self.mask[rows]
        chosen.paths = [list(self.paths[row]) for row in rows.tolist()]
        chosen.log_probs = self.log_probs[rows]
        return chosen

    @torch.no_grad()
    def _after(self, paths: Sequence[Sequence[tuple[int, ...]]]) -> torch.Tensor:
        """[R, N, V] log-probabilities of what follows each of N paths per request."""
        number = len(paths[0])
        flat = [np.array([self.backbone._start, *path]) for row in paths for path in row]
        ids, real = padded(flat, self.backbone.pad)
        ids, last = ids.to(self.states.device), (real.sum(1) - 1).to(self.states.device)
        repeated = torch.arange(len(self.states), device=self.states.device).repeat_interleave(number)
        with self.backbone.precision():
            hidden = self.backbone._decode(self.states[repeated], self.mask[repeated], ids)  # [R * N, D, H]
            ends = hidden[torch.arange(len(flat), device=hidden.device), last]
            with torch.autocast(ends.device.type, enabled=False):  # bf16 would make neighbours in a ranking equal
                log_probs = self.backbone._logits(ends.to(self.backbone.model.dtype)).float().log_softmax(-1)
        return log_probs.unflatten(0, (len(self.states), number))
