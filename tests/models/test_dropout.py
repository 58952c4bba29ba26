"""Dropout of hidden states: in training alone, of the stated share, and nothing of it in what is saved."""

from __future__ import annotations

import torch
from transformers import LlamaForCausalLM

from shelftalk.models.nano import llama
from shelftalk.models.settings import NanoSettings

SHARE = 0.4
IDS = torch.arange(1, 9).repeat(64, 1)  # the vector of the padding, 0, is all zeros


def model(share: float) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return llama(NanoSettings(width=32, layers=2, heads=2, hidden_dropout=share), vocabulary=9)


def test_a_model_that_does_not_train_drops_nothing() -> None:
    with torch.no_grad():
        plain, dropping = model(0.0).eval()(IDS).logits, model(SHARE).eval()(IDS).logits
    assert torch.equal(plain, dropping)


def test_the_share_of_vectors_and_of_every_blocks_output_is_dropped_and_the_rest_scaled() -> None:
    dropping, seen = model(SHARE).train(), {}

    def look(name: str):
        def kept(_module, _inputs, output):
            seen[name] = output[0] if isinstance(output, tuple) else output

        return kept

    named = {"vectors": dropping.model.embed_tokens}
    for number, layer in enumerate(dropping.model.layers):
        named |= {f"attention {number}": layer.self_attn, f"feed-forward {number}": layer.mlp}
    for name, module in named.items():
        module.register_forward_hook(look(name))
    dropping(IDS)
    assert list(seen) == ["vectors", *(name for name in named if name != "vectors")]
    for name, output in seen.items():
        dropped = (output == 0).float().mean().item()
        assert abs(dropped - SHARE) < 0.02, name
    kept = seen["vectors"] != 0
    scaled = dropping.model.embed_tokens.weight[IDS] / (1 - SHARE)
    assert torch.allclose(seen["vectors"][kept], scaled[kept])


def test_a_saved_model_is_a_plain_llama(tmp_path) -> None:
    model(SHARE).save_pretrained(tmp_path)
    opened = LlamaForCausalLM.from_pretrained(tmp_path).train()
    assert torch.equal(opened(IDS).logits, opened(IDS).logits)
