"""How many tokens a model can read at once, where its architecture limits that."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

_NAMES = ("embed_positions", "position_embeddings", "position_embedding", "wpe")


def position_limit(model: PreTrainedModel) -> int | None:
    """The rows of the model's table of learned positions (OPT, XGLM): it cannot read more tokens than these.
    None where positions are computed, as rotary and relative ones are: such a model can read more tokens than
    its `max_position_embeddings`, though it was not trained to."""
    tables = (
        module.num_embeddings - int(getattr(module, "offset", 0))  # OPT's first two rows are no positions
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding) and name.rpartition(".")[2] in _NAMES
    )
    return min(tables, default=None)
