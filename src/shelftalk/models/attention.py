"""Attention for bf16 training on a processor: full precision inside, bf16 outside.

The processor's bf16 attention kernel is slower than its fp32 one on the short sequences of recommendation
(its backward pass was half of a training step on an AVX-512 BF16 machine; benchmarks/attention.py measures
both), and it is less exact besides.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "shelftalk_fp32"


def use_full_precision_attention(model: PreTrainedModel) -> None:
    """Make a model on the processor compute its attention in fp32. Nothing of this is saved with
    the model."""
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """[B, heads, T, d] each; the mask is additive or boolean."""
    # T5's relative positions are among the options
    options = {name: _full(value) for name, value in options.items()}
    with torch.autocast(query.device.type, enabled=False):
        attended, _ = sdpa_attention_forward(
            module, query.float(), key.float(), value.float(), _full(attention_mask), **options
        )
    return attended.to(value.dtype), None


def _full(value: Any) -> Any:
    """Floating-point tensors in fp32; everything else as it is."""
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
