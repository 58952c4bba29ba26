"""Small models with large weights, so that one string differs from the next, and a plain way to ask them for
the log-probability of one."""

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

TEXTS = [
    "red scarf blue hat green glove of wool, I bought gloves. Next: a cap",
    "red hats and scarves, blue gloves of silk",
] * 20
FAMILIES = ("decoder-only", "encoder-decoder")
PROMPTS = (
    "I bought gloves. Next:",
    "a cap",
    "red hats and scarves, blue gloves of silk and a green hat. Next:",
)


@cache
def small(family: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A Llama with byte-level pieces, or a FLAN-T5 with pieces of its kind. Shared: tests that change one
    copy it."""
    if family == "decoder-only":
        backbone = build_nano(TEXTS, [], NanoSettings(width=16, layers=2, heads=2, vocabulary=320), seed=0)
        return with_large_weights(backbone.model), backbone.tokenizer
    with TemporaryDirectory() as folder:
        save_flan_t5(Path(folder), TEXTS, SMALL, vocabulary=400, pieces=100)
        return with_large_weights(
            from_random_weights(AutoConfig.from_pretrained(folder))
        ), AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def with_large_weights(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    draw = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.normal_(0, 0.3, generator=draw)
    return model.eval()


@torch.no_grad()
def name_log_prob(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, name: list[int]
) -> float:
    """The log-probability of the tokens `name` after a prompt, by one plain forward pass."""
    prompt_ids = tokenizer(prompt, return_tensors="pt").input_ids
    name_ids = torch.tensor([name])
    if model.config.is_encoder_decoder:
        shifted = torch.cat([torch.tensor([[model.config.decoder_start_token_id]]), name_ids[:, :-1]], dim=1)
        logits = model(input_ids=prompt_ids, decoder_input_ids=shifted).logits[0]
    else:
        logits = model(input_ids=torch.cat([prompt_ids, name_ids[:, :-1]], dim=1)).logits[
            0, prompt_ids.shape[1] - 1 :
        ]
    return float(logits.float().log_softmax(-1)[range(len(name)), name].sum())


def name_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a harmless string, and the end token."""
    return [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
