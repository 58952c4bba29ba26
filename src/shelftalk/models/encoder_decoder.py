"""Encoder-decoder backbones: the T5 family. Legend in backbone.py; S source tokens, D depth of a node, K
entries of a tree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers.cache_utils import EncoderDecoderCache

from shelftalk.models.allowed_tokens import labels_by_set
from shelftalk.models.backbone import Backbone, padded, padded_labels, soft_labels
from shelftalk.models.text_encoder import Encoded
from shelftalk.models.token_tree import Prefilled, TokenTree, additive_mask, new_cache, select_rows


class EncoderDecoder(Backbone):
    """The text before the first token that bears loss is the source; the rest is the target."""

    family = "encoder-decoder"

    def collate(self, samples: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` [B, S]; `decoder_input_ids` [B, D], shifted right after the start
        token; `label_positions` [L] index into B * D; `labels` [L]."""
        step, with_cuts = self.padding.length, [(sample, sample.prompt_length) for sample in samples]
        sources = [self._source(sample.ids[:cut]) for sample, cut in with_cuts]
        source, real = padded(sources, self.pad, step)
        target, _ = padded([sample.ids[cut:] for sample, cut in with_cuts], self.pad, step)
        loss, _ = padded([sample.bears_loss[cut:] for sample, cut in with_cuts], 0, step)
        positions = loss.flatten().nonzero().squeeze(1)
        label_positions, labels = padded_labels(positions, target.flatten()[positions], self.padding.labels)
        start = torch.full_like(target[:, :1], self._start)
        kept = np.ones(len(positions), bool)
        return {
            "input_ids": source,
            "attention_mask": real.long(),
            "decoder_input_ids": torch.cat([start, target[:, :-1]], dim=1),
            "label_positions": label_positions,
            "labels": labels,
            **soft_labels(samples, kept, labels),
            **labels_by_set(samples, kept, self.allowed_tokens, self.padding.labels),
        }

    def label_log_probs(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with self.precision():
            mask = batch["attention_mask"]
            encoded = self.model.encoder(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
            hidden = self._decode(encoded, mask, batch["decoder_input_ids"])  # [B, D, H]
            states = hidden.flatten(0, 1)[batch["label_positions"]]  # [L, H]
            return self._scores_of_labels(states, batch)

    @torch.no_grad()
    def prefill(self, prompts: Sequence[Encoded]) -> Prefilled:
        """Encode the sources once."""
        source, real = padded([self._source(prompt.ids) for prompt in prompts], self.pad, self.padding.length)
        source, mask = source.to(self.device), real.long().to(self.device)
        with self.precision():
            encoded = self.model.encoder(input_ids=source, attention_mask=mask).last_hidden_state
        bias = additive_mask(real.to(self.device)[:, None, None], encoded.dtype)
        return _Tree.of_sources(self, encoded, bias)

    def _source(self, ids: np.ndarray) -> np.ndarray:
        """T5 closes a source with </s>; an empty one would leave nothing to attend to."""
        return np.append(ids, self.tokenizer.eos_token_id)

    @property
    def _start(self) -> int:
        return int(self.model.config.decoder_start_token_id)

    def _decode(self, states: torch.Tensor, mask: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """[B, D, H]: decoder states over encoder states [B, S, H]."""
        result: torch.Tensor = self.model.decoder(
            input_ids=ids, encoder_hidden_states=states, encoder_attention_mask=mask, use_cache=False
        ).last_hidden_state
        return result

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        # T5 1.0 ties its embeddings and rescales; FLAN-T5 does neither
        if self.model.config.scale_decoder_outputs:
            states = states * self.model.model_dim**-0.5
        result: torch.Tensor = self.model.lm_head(states)
        return result


class _Tree(Prefilled):
    """Nodes are entries of the decoder's own cache after the start token and attend to their ancestors alone;
    each source's keys and values are computed once for all of them.

    T5 knows distances by a bias on its attention, which its decoder computes from positions in the cache. In
    a tree those are not depths, so the blocks are called one by one with a bias by depth.
    """

    backbone: EncoderDecoder

    def __init__(
        self,
        backbone: EncoderDecoder,
        encoded: torch.Tensor,  # [R, S, H]
        source: torch.Tensor,  # [R, 1, 1, S] additive: 0 at a real source token
        cache: EncoderDecoderCache,
        tree: TokenTree,
    ) -> None:
        self.backbone = backbone
        self.encoded = encoded
        self.source = source
        self.cache = cache
        self.tree = tree

    @classmethod
    def of_sources(cls, backbone: EncoderDecoder, encoded: torch.Tensor, source: torch.Tensor) -> _Tree:
        """The start token alone has been decoded."""
        cache = EncoderDecoderCache(new_cache(), new_cache())
        roots = TokenTree.empty(len(encoded), encoded.device, cache.self_attention_cache, prompt_length=1)
        tree = cls(backbone, encoded, source, cache, roots)
        start = torch.full_like(roots.parent, backbone._start)  # [R, 1]
        tree.states = tree._read(start, torch.ones_like(start, dtype=torch.bool)[:, None])[:, 0]
        return tree

    @torch.no_grad()
    def decode(self, parents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self._read(tokens, self.tree.extend(parents))

    def select(self, rows: torch.Tensor) -> _Tree:
        """Copies the caches; meant for the few moments when requests are finished."""
        tree = self.tree.select(rows)
        cache = EncoderDecoderCache(tree.cache, select_rows(self.cache.cross_attention_cache, rows))
        selected = _Tree(self.backbone, self.encoded[rows], self.source[rows], cache, tree)
        selected.states = self.states[rows]
        return selected

    def _read(self, tokens: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """[R, N, H] final states of tokens [R, N] that attend to the entries `visible` [R, N, K] of the tree,
        the last N of which are their own."""
        decoder = self.backbone.model.decoder
        bias = self._bias(visible)
        with self.backbone.precision():
            hidden = decoder.embed_tokens(tokens)
            for block in decoder.block:
                hidden, *_ = block(
                    hidden,
                    position_bias=bias,
                    encoder_hidden_states=self.encoded,
                    encoder_decoder_position_bias=self.source,
                    past_key_values=self.cache,
                    is_causal=False,  # the bias holds the mask
                )
            result: torch.Tensor = decoder.final_layer_norm(hidden)
            return result

    def _bias(self, visible: torch.Tensor) -> torch.Tensor:
        """[R, heads, N, K]: T5's bias for the steps between two depths; the smallest number where an entry is
        not visible."""
        depth = self.tree.depth
        steps = (depth[:, -visible.shape[1] :, None] - depth[:, None, :]).clamp(min=0)  # [R, N, K]
        attention = self.backbone.model.decoder.block[0].layer[0].SelfAttention
        # [heads, D]: D queries over the first key
        table = attention.compute_bias(int(depth.max()) + 1, 1)[0, :, :, 0]
        bias = table[:, steps].transpose(0, 1)
        result: torch.Tensor = bias.masked_fill(~visible[:, None], torch.finfo(bias.dtype).min)
        return result
