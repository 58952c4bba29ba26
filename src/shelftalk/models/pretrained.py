"""Backbones from a folder, a GGUF file or the hub: what `Backbone.save` wrote, or any transformers model of a
known family.

A released model is *adapted* to a catalogue before it is trained: its tokenizer gets the sentinels, the
symbols of item names and the line break as tokens, and its embeddings a row for each of them that is new.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import AddedToken
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from shelftalk.errors import MissingFile, SettingsError, UnreadableFile, reading
from shelftalk.models.backbone import Backbone, rounded_up
from shelftalk.models.free_text import TEXT_WORDS
from shelftalk.models.gguf import check_reader, fix_tokenizer, gguf_file
from shelftalk.models.precision import device, inference_precision, product_type
from shelftalk.models.settings import FAMILIES, Precision, PretrainedSettings
from shelftalk.models.weights import check_loaded, check_repeats, check_size

VOCABULARY_STEP = 8
"""An extended vocabulary is padded to a multiple of this, which matrix units prefer."""


def load_backbone(folder: Path, precision: Precision = "auto") -> Backbone:
    """The model and tokenizer that `Backbone.save` wrote into a folder, in fp32 weights.

    It computes in `precision`, that of its training, or in fp32 where this machine does not have it. Raises
    MissingFile where there is no model, and UnreadableFile where its files are damaged or do not go together:
    a weight that the config describes and the file lacks is never drawn at random.
    """
    if not (folder / "config.json").exists():
        raise MissingFile(f'"{folder}" holds no model; run `shelftalk train` first or correct the path.')
    settings = PretrainedSettings(name=str(folder))
    with reading(f'"{folder}" cannot be opened as a model', "fetch it whole, or train it again"):
        config, tokenizer = read_config(settings), read_tokenizer(settings)
        check_config(config, tokenizer, str(folder))
        model = _saved(folder, settings, config)
        check_loaded(model, tokenizer)
        return _backbone(
            model.to(device()).eval(), tokenizer, inference_precision(precision, family_of(config))
        )


def start_from_pretrained(
    settings: PretrainedSettings,
    symbols: Sequence[str],
    texts: Mapping[str, Sequence[str]],
    precision: Precision,
    seed: int,
) -> Backbone:
    """A backbone to fine-tune: the model of `settings`, its vocabulary extended by `symbols`.

    A symbol that the tokenizer has (T5's <extra_id_0>) keeps its token and its weights. A new one starts at
    the mean of the token embeddings of its `texts` (see Backbone.start_symbols_from_texts), one without a
    text at the mean of all embeddings.

    The vectors that an item index may give its symbols are not added here, though the nano model starts from
    them: they have no known relation to the directions of a trained embedding space, in which the texts give
    the symbols a meaning already. Which items are taken together is learnt from the samples.

    Where `settings.adaptation` is "lora", only adapters and the vectors of new tokens are left trainable
    (see lora.py).
    """
    config, tokenizer = read_config(settings), read_tokenizer(settings)
    check_config(config, tokenizer, settings.name)
    torch.manual_seed(seed)
    model = from_random_weights(config) if settings.random_weights else _released(settings, config)
    released = len(tokenizer)
    backbone = adapted(model.to(device()), tokenizer, symbols, precision)
    new = {symbol for symbol in symbols if backbone.tokens(symbol, symbols=True)[0] >= released}
    backbone.start_symbols_from_texts({symbol: of for symbol, of in texts.items() if symbol in new})
    if settings.adaptation == "lora":
        _add_adapters(backbone.model, range(released, len(tokenizer)), settings)
    return backbone


def meta_model(settings: PretrainedSettings, symbols: Sequence[str]) -> Backbone:
    """The same on the meta device, without values: shapes, tokenizer and adapters, for planning."""
    config, tokenizer = read_config(settings), read_tokenizer(settings)
    check_config(config, tokenizer, settings.name)
    released = len(tokenizer)
    with torch.device("meta"):
        backbone = adapted(from_random_weights(config), tokenizer, symbols, "fp32")
        if settings.adaptation == "lora":
            _add_adapters(backbone.model, range(released, len(tokenizer)), settings)
    return backbone


def _add_adapters(model: PreTrainedModel, tokens: Sequence[int], settings: PretrainedSettings) -> None:
    from shelftalk.models.lora import add_adapters  # peft takes half a second to load

    add_adapters(model, tokens, settings)


def without_values(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same shapes, ties and adapters, its tensors empty, on the device that is torch's default
    for the caller (`with torch.device("meta")`)."""
    empty: dict[int, torch.Tensor] = {}
    for buffer in model.buffers():
        empty[id(buffer)] = torch.empty(buffer.shape, dtype=buffer.dtype)
    for weight in model.parameters():
        values = torch.empty(weight.shape, dtype=weight.dtype)
        empty[id(weight)] = torch.nn.Parameter(values, weight.requires_grad)
    return copy.deepcopy(model, empty)  # which takes a tensor's copy from `empty`, and copies all else


def enable_checkpointing(model: PreTrainedModel) -> None:
    """Gradient checkpointing: in training mode layers keep their input alone. By the name that the installed
    transformers has for it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def read_config(settings: PretrainedSettings) -> PreTrainedConfig:
    """The config of a folder, of a GGUF file or of the hub. Raises MissingFile where there is none,
    SettingsError where decoding cannot use it or a GGUF file cannot be read."""
    config = _read(AutoConfig, settings)
    # a config may name an attention that is code from the hub; the model's default is taken instead
    config._attn_implementation = None
    check_supported(config, settings.name)
    return config


def check_supported(config: PreTrainedConfig, name: str) -> None:
    """Raises SettingsError for an architecture that decoding cannot use; `name` is the model's in
    the message."""
    if not config.is_encoder_decoder and (reason := _unsupported_because(config)):
        raise SettingsError(
            f'the model "{name}" ("{config.model_type}") {reason}, which is not supported; choose a '
            "decoder-only model with full attention, or one of the T5 family."
        )
    if config.is_encoder_decoder and not hasattr(config, "scale_decoder_outputs"):
        raise SettingsError(
            f'the model "{name}" is an encoder-decoder of the kind "{config.model_type}", and only the T5 '
            "family is supported; choose one of that family or a decoder-only model."
        )


def read_tokenizer(settings: PretrainedSettings) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, of a GGUF file or of the hub. Raises MissingFile."""
    opener = PreTrainedTokenizerFast if _is_self_contained(Path(settings.name)) else AutoTokenizer
    tokenizer = _read(opener, settings)
    if file := gguf_file(settings.name):
        fix_tokenizer(tokenizer, file)
    if tokenizer.pad_token is None:
        # padding is masked or never read, so any token does
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _is_self_contained(folder: Path) -> bool:
    """Whether a tokenizer is all in its tokenizer.json, as its config declares of one that `Backbone.save`
    wrote. AutoTokenizer would follow the model's type instead, and replace the pre-tokenizer by Qwen's."""
    config = folder / "tokenizer_config.json"
    self_contained = ("TokenizersBackend", "PreTrainedTokenizerFast")
    if not config.exists():
        return False
    try:
        return json.loads(config.read_text("utf-8")).get("tokenizer_class") in self_contained
    except (ValueError, AttributeError, RecursionError):
        raise UnreadableFile(f'"{config}" is damaged; fetch it again.') from None


def family_of(config: PreTrainedConfig) -> str:
    """The name in FAMILIES."""
    return next(name for name, family in FAMILIES.items() if family.encoder == config.is_encoder_decoder)


def check_config(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raises SettingsError where a token that every sample needs is missing."""
    needed = {"pad token": tokenizer.pad_token_id}
    if config.is_encoder_decoder:
        needed |= {
            "end token": tokenizer.eos_token_id,
            "decoder_start_token_id": getattr(config, "decoder_start_token_id", None),
        }
    for role, token in needed.items():
        if token is None:
            raise SettingsError(
                f'the model "{name}" names no {role}; add it to its config or tokenizer files, or choose '
                "another."
            )


def from_random_weights(config: PreTrainedConfig) -> PreTrainedModel:
    """The architecture of a config in fp32, weights drawn by torch's seed."""
    model = _opener(config).from_config(config, dtype=torch.float32, trust_remote_code=False)
    if not _tied(config):
        _own_output_layer(model)
    return model.eval()


def adapted(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, symbols: Sequence[str], precision: Precision
) -> Backbone:
    """The backbone of a model whose vocabulary is extended by `symbols` and the line break (see
    add_symbols)."""
    released = len(tokenizer)
    add_symbols(tokenizer, symbols)
    _extend_embeddings(model, released, len(tokenizer))
    # a T5 has its embeddings under three names, which become one module, as sharding needs
    model.set_input_embeddings(model.get_input_embeddings())
    return _backbone(model, tokenizer, precision)


def add_symbols(tokenizer: PreTrainedTokenizerBase, symbols: Sequence[str]) -> PreTrainedTokenizerBase:
    """Add `symbols`, and the line break where the tokenizer lacks it, each as one token. Returns the
    same tokenizer."""
    if not tokenizer.encode("\n", add_special_tokens=False):
        words = [AddedToken(word, normalized=False) for word in TEXT_WORDS]
        tokenizer.add_tokens(words, special_tokens=False)
    tokenizer.add_tokens([AddedToken(symbol, normalized=False) for symbol in symbols], special_tokens=True)
    return tokenizer


def _unsupported_because(config: PreTrainedConfig) -> str:
    """Why a model without an encoder cannot be trained and decoded here, as the rest of a sentence; "" where
    it can.

    A window may be declared by layer, or by `sliding_window` for all of them (Mistral, Phi3), which Qwen's
    `use_sliding_window` can switch off. transformers calls a model stateful whose cache cannot be cropped to
    an earlier token (Mamba, RWKV).
    """
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return "is no language model that writes from left to right"
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
        return "reads its text from both sides"
    text = config.get_text_config()
    layers = getattr(text, "layer_types", None)
    others = sorted({str(layer) for layer in layers or ()} - {"full_attention"})
    in_all = (
        layers is None and getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True)
    )
    if in_all or "sliding_attention" in others or "local" in getattr(text, "attention_layers", ()):
        return "attends through a sliding window"
    if others:
        return f"has layers of the kind {', '.join(others)}"
    stateful = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]._is_stateful
    return "keeps a state in place of attention" if stateful else ""


def _read(opener: Any, settings: PretrainedSettings, **options: Any) -> Any:
    """Config, tokenizer or model, by `opener.from_pretrained`. Raises MissingFile or UnreadableFile."""
    transformers_logging.disable_progress_bar()
    # it warns that FLAN-T5's two embedding matrices differ, which they should
    transformers_logging.set_verbosity_error()
    file = gguf_file(settings.name)
    if file:
        check_reader()
        options = {**options, "gguf_file": file.name}
    try:
        name = str(file.parent) if file else settings.name
        return opener.from_pretrained(name, revision=settings.revision, trust_remote_code=False, **options)
    except SafetensorError as error:
        raise UnreadableFile(
            f'the weights of "{settings.name}" are damaged or cut short ({error}); fetch or train it again.'
        ) from None
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        if Path(settings.name).exists():
            raise MissingFile(
                f'"{settings.name}" holds no model that can be read ({reason}); fetch it whole, or correct '
                "the path."
            ) from None
        raise MissingFile(
            f'the model "{settings.name}" can be read neither from a folder nor from the hub ({reason}); '
            "check pretrained.name and the network, or fetch the model on another machine and give the path "
            "of its folder."
        ) from None


def _released(settings: PretrainedSettings, config: PreTrainedConfig) -> PreTrainedModel:
    """The released weights in fp32; safetensors or GGUF only, since a pickle may run anything."""
    options: dict[str, Any] = {"config": config, "dtype": torch.float32, "use_safetensors": True}
    if gguf_file(settings.name):
        options["quantization_config"] = GgufConfig(dequantize=True)
    model = _read(_opener(config), settings, **options)
    _record_tying(model)
    return model.eval()


def _saved(folder: Path, settings: PretrainedSettings, config: PreTrainedConfig) -> PreTrainedModel:
    """The weights of a folder, exactly those that its config describes. Raises ValueError where
    they are not."""
    if getattr(config, "quantization_config", None):
        raise ValueError("its config asks for quantised weights, which shelftalk never saves")
    check_repeats(folder, config)
    with torch.device("meta"):
        # of a copy, since building a T5 changes in its config whether its matrices are tied
        built = from_random_weights(copy.deepcopy(config))
    check_size(folder, built)
    options = {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
    model, info = _read(_opener(config), settings, config=config, **options)
    for keys in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[keys]:
            raise ValueError(f"its weights and its config differ in {min(map(str, info[keys]))}")
    _record_tying(model)
    return model


def _opener(config: PreTrainedConfig) -> Any:
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def _backbone(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, precision: Precision) -> Backbone:
    family = family_of(model.config)
    dtype = product_type(precision, family)
    result: Backbone = FAMILIES[family].load()(
        model, tokenizer, bf16=dtype == torch.bfloat16, fp16=dtype == torch.float16
    )
    return result


def _tied(config: PreTrainedConfig) -> bool:
    """Whether output and input embeddings are one matrix. A T5Config has tie_word_embeddings = True for
    every T5; that FLAN-T5's are two, as its file has it, is kept in `scale_decoder_outputs` alone
    (transformers 5)."""
    return bool(getattr(config, "scale_decoder_outputs", config.tie_word_embeddings))


def _own_output_layer(model: PreTrainedModel) -> None:
    """Give the model an output matrix of its own, drawn with the standard deviation of its inputs."""
    layer = model.get_output_embeddings()
    weight = torch.empty_like(layer.weight).normal_(0, model.config.hidden_size**-0.5)
    layer.weight = torch.nn.Parameter(weight)
    _record_tying(model)


def _record_tying(model: PreTrainedModel) -> None:
    """Set tie_word_embeddings to what the model has: to extend or save a model that is tied in its config
    alone would tie its matrices, and lose one."""
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    model.config.tie_word_embeddings = tied


def _extend_embeddings(model: PreTrainedModel, released: int, tokens: int) -> None:
    """Rows for `tokens` in both embedding matrices; those after the first `released` start at their mean, so
    that no new token is preferred."""
    if tokens > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(rounded_up(tokens, VOCABULARY_STEP), mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[released:] = layer.weight[:released].mean(dim=0)
