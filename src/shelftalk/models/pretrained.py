"""Backbones from a folder: what `Backbone.save` or any transformers model of a known family wrote."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from shelftalk.errors import MissingFile, SettingsError
from shelftalk.models.backbone import Backbone
from shelftalk.models.decoder_only import DecoderOnly
from shelftalk.models.encoder_decoder import EncoderDecoder


def load_backbone(folder: Path, bf16: bool = False) -> Backbone:
    """The model and tokenizer of a folder, in fp32 weights; `bf16` asks for bf16 products. Raises MissingFile."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise MissingFile(f'"{folder}" holds no model; run `shelftalk train` first or mend the path.') from None
    if "sliding_attention" in (config.get("layer_types") or []):
        raise SettingsError(f'the model in "{folder}" attends through a sliding window, which decoding does not support; choose another.')
    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if config.get("is_encoder_decoder"):
        return EncoderDecoder(AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval(), tokenizer, bf16)
    return DecoderOnly(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), tokenizer, bf16)
