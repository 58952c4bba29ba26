"""Small models with loud weights, so that one string differs from the next, and a plain way to ask them what a string is worth."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from shelftalk.models.nano import build_nano
from shelftalk.models.pretrained import from_random_weights
from shelftalk.models.settings import NanoSettings
from shelftalk.testing.t5_folder import SMALL, save_flan_t5

TEXTS = ["red scarf blue hat green glove of wool, I bought gloves. Next: a cap", "red hats and scarves, blue gloves of silk"] * 20
FAMILIES = ("decoder-only", "encoder-decoder")
PROMPTS = ("I bought gloves. Next:", "a cap", "red hats and scarves, blue gloves of silk and a green hat. Next:")


@cache
def small(family: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A Llama with byte-level pieces, or a FLAN-T5 with pieces of its kind. Shared: tests that change one copy it."""
    if family == "decoder-only":
        backbone = build_nano(TEXTS, [], NanoSettings(width=16, layers=2, heads=2, vocabulary=320), seed=0)
        return loud(backbone.model), backbone.tokenizer
    with TemporaryDirectory() as folder:
        save_flan_t5(Path(folder), TEXTS, SMALL, vocabulary=400, pieces=100)
        return loud(from_random_weights(AutoConfig.from_pretrained(folder))), AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def loud(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    draw = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.normal_(0, 0.3, generator=draw)
    return model.eval()


@torch.no_grad()
def worth(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, name: list[int]) -> float:
    """The log-probability of the tokens `name` behind a prompt, by one plain forward pass."""
    read = tokenizer(prompt, return_tensors="pt").input_ids
    said = torch.tensor([name])
    if model.config.is_encoder_decoder:
        behind = torch.cat([torch.tensor([[model.config.decoder_start_token_id]]), said[:, :-1]], dim=1)
        logits = model(input_ids=read, decoder_input_ids=behind).logits[0]
    else:
        logits = model(input_ids=torch.cat([read, said[:, :-1]], dim=1)).logits[0, read.shape[1] - 1 :]
    return float(logits.float().log_softmax(-1)[range(len(name)), name].sum())


def name_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a harmless string, and the end token."""
    return [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
