"""The nano backbone: tokenizer and weights from scratch, for a machine without GPU or network, in
both families."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from shelftalk.declarations import attribute
from shelftalk.models.backbone import Backbone
from shelftalk.models.dropout import drop_hidden_states
from shelftalk.models.precision import device
from shelftalk.models.settings import FAMILIES, NanoSettings

CONTROL = ("<pad>", "</s>")


def build_nano(
    texts: Iterable[str],
    symbols: Sequence[str],
    settings: NanoSettings,
    seed: int,
    bf16: bool = False,
    fp16: bool = False,
) -> Backbone:
    """A backbone with random weights and a tokenizer trained on `texts`, with each of `symbols` as
    one token."""
    tokenizer = train_tokenizer(texts, symbols, settings.vocabulary)
    torch.manual_seed(seed)
    family = FAMILIES[settings.family]
    model = attribute(family.nano)(settings, len(tokenizer)).to(device())
    result: Backbone = family.load()(model, tokenizer, bf16, fp16)
    return result


def train_tokenizer(texts: Iterable[str], symbols: Sequence[str], vocabulary: int) -> PreTrainedTokenizerBase:
    """Byte-level BPE, so that any text has tokens; a rating such as " 4.5" can become one piece."""
    tokenizer = Tokenizer(models.BPE())
    words = Regex(r" ?\d+\.\d+|\d+| ?\p{L}+| ?[^\s\p{L}\d]+|\s+(?!\S)|\s")
    split = pre_tokenizers.Split(words, behavior="isolated")
    # without its own regex, which would split " 4.5" into three
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")
    fast.add_tokens(list(symbols), special_tokens=True)
    return fast


def llama(settings: NanoSettings, vocabulary: int) -> LlamaForCausalLM:
    """A small Llama with random weights, drawn by torch's seed."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=settings.width,
            intermediate_size=3 * settings.width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            max_position_embeddings=4096,
            attention_dropout=settings.dropout,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=0,
        )
    )
    if settings.hidden_dropout:
        drop_hidden_states(model, settings.hidden_dropout)
    return model


def t5(settings: NanoSettings, vocabulary: int) -> T5ForConditionalGeneration:
    """A small T5 with random weights, drawn by torch's seed."""
    half = max(1, settings.layers // 2)
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=vocabulary,
            d_model=settings.width,
            d_kv=settings.width // settings.heads,
            d_ff=3 * settings.width,
            num_layers=half,
            num_decoder_layers=half,
            num_heads=settings.heads,
            dropout_rate=settings.dropout,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=True,
            decoder_start_token_id=0,
            eos_token_id=1,
            pad_token_id=0,
        )
    )
