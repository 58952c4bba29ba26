"""Dropout of hidden states for families whose own code has none: Llama drops attention weights alone.

In training a share of the token vectors, and of what each attention and feed-forward block adds to the
hidden states, is set to 0 and the rest scaled up, as in the original transformer (Vaswani et al., NeurIPS
2017, section 5.4). Nothing of it is saved with the weights: a published model is a plain Llama.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.functional import dropout


def drop_hidden_states(model: Any, share: float) -> None:
    """Let `model`, a Llama or alike, drop `share` of its token vectors and of the output of each block while
    it is in training mode."""

    def dropped(module: nn.Module, _: Any, output: Any) -> Any:
        if isinstance(output, tuple):  # attention returns its weights, too
            return dropout(output[0], share, module.training), *output[1:]
        return dropout(output, share, module.training)

    blocks = [block for layer in model.model.layers for block in (layer.self_attn, layer.mlp)]
    for module in (model.model.embed_tokens, *blocks):
        module.register_forward_hook(dropped)
