"""How many tokens a model has positions for, where that is a limit and not a habit."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

_NAMES = ("embed_positions", "position_embeddings", "position_embedding", "wpe")


def position_limit(model: PreTrainedModel) -> int | None:
    """Tokens that the model can read at once at all: the rows of its table of learned positions (OPT, XGLM).
    None where positions are worked out, as rotary and relative ones are: such a model reads on, though beyond
    its `max_position_embeddings` it was not trained."""
    tables = (
        module.num_embeddings - int(getattr(module, "offset", 0))  # OPT's first rows are no positions
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding) and name.rpartition(".")[2] in _NAMES
    )
    return min(tables, default=None)
