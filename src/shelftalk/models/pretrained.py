"""Backbones from a folder, a GGUF file or the hub: what `Backbone.save` wrote, or any transformers model of a
known family.

A released model is *adapted* to a catalogue before it is trained: its tokenizer learns the marks, the symbols
of item names and the line break, and its vocabulary grows by what it did not have.
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
from shelftalk.models.decoder_only import DecoderOnly
from shelftalk.models.encoder_decoder import EncoderDecoder
from shelftalk.models.free_text import TEXT_WORDS
from shelftalk.models.gguf import check_reader, fix_tokenizer, gguf_file
from shelftalk.models.lora import add_adapters
from shelftalk.models.precision import asking_precision, device, product_type
from shelftalk.models.settings import Precision, PretrainedSettings
from shelftalk.models.weights import check_loaded, check_repeats, check_size

VOCABULARY_STEP = 8
"""A vocabulary grows to a multiple of this, as matrix units like it."""


def load_backbone(folder: Path, precision: Precision = "auto") -> Backbone:
    """The model and tokenizer that `Backbone.save` wrote into a folder, in fp32 weights.

    It is asked in `precision`, that of its training, or in fp32 where this machine does not have it. Raises
    MissingFile where there is no model, and UnreadableFile where its files are damaged or do not go together:
    a weight that the config describes and the file lacks is never drawn at random.
    """
    if not (folder / "config.json").exists():
        raise MissingFile(f'"{folder}" holds no model; run `shelftalk train` first or mend the path.')
    settings = PretrainedSettings(name=str(folder))
    with reading(f'"{folder}" cannot be opened as a model', "fetch it whole, or train it again"):
        config, tokenizer = read_config(settings), read_tokenizer(settings)
        check_config(config, tokenizer, str(folder))
        model = _whole(folder, settings, config)
        check_loaded(model, tokenizer)
        return _backbone(model.to(device()).eval(), tokenizer, asking_precision(precision, family_of(config)))


def start_from_pretrained(
    settings: PretrainedSettings,
    symbols: Sequence[str],
    texts: Mapping[str, Sequence[str]],
    precision: Precision,
    seed: int,
) -> Backbone:
    """A backbone to fine-tune: the model of `settings`, its vocabulary grown by `symbols`.

    A symbol that the tokenizer has (T5's <extra_id_0>) keeps its token and its weights. A new one starts at
    the mean of the token embeddings of its `texts` (see Backbone.start_symbols_from_texts), one without a
    text at the mean of all embeddings.

    The vectors that an item index may give its symbols are not added here, though the nano model starts from
    them: the embedding space of a trained model has directions of its own, to which they have no known
    relation, and its symbols already mean something by their texts. What is taken together is left to the
    samples.

    Where `settings.adaptation` is "lora", only adapters and the vectors of new tokens are left trainable (see
    lora.py).
    """
    config, tokenizer = read_config(settings), read_tokenizer(settings)
    check_config(config, tokenizer, settings.name)
    torch.manual_seed(seed)
    model = from_random_weights(config) if settings.random_weights else _released(settings, config)
    known = len(tokenizer)
    backbone = adapted(model.to(device()), tokenizer, symbols, precision)
    new = {symbol for symbol in symbols if backbone.tokens(symbol, symbols=True)[0] >= known}
    backbone.start_symbols_from_texts({symbol: written for symbol, written in texts.items() if symbol in new})
    if settings.adaptation == "lora":
        add_adapters(backbone.model, range(known, len(tokenizer)), settings)
    return backbone


def meta_model(settings: PretrainedSettings, symbols: Sequence[str]) -> Backbone:
    """The same without any weight: shapes, tokenizer and adapters, for planning. Nothing is computed with
    it."""
    config, tokenizer = read_config(settings), read_tokenizer(settings)
    check_config(config, tokenizer, settings.name)
    known = len(tokenizer)
    with torch.device("meta"):
        backbone = adapted(from_random_weights(config), tokenizer, symbols, "fp32")
        if settings.adaptation == "lora":
            add_adapters(backbone.model, range(known, len(tokenizer)), settings)
    return backbone


def without_values(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same shapes, ties and adapters, its tensors made where the caller's context puts new
    ones."""
    empty: dict[int, torch.Tensor] = {
        id(buffer): torch.empty(buffer.shape, dtype=buffer.dtype) for buffer in model.buffers()
    }
    for weight in model.parameters():
        empty[id(weight)] = torch.nn.Parameter(
            torch.empty(weight.shape, dtype=weight.dtype), weight.requires_grad
        )
    return copy.deepcopy(model, empty)  # all else is copied; a tensor is what stands for it here


def enable_checkpointing(model: PreTrainedModel) -> None:
    """Layers keep their input alone while the model is in training mode; by the name that this transformers
    has for it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def read_config(settings: PretrainedSettings) -> PreTrainedConfig:
    """The config of a folder, of a GGUF file or of the hub. Raises MissingFile where there is none,
    SettingsError where decoding cannot use it or a GGUF file cannot be read."""
    config = _read(AutoConfig, settings)
    # a config may name an attention that is fetched from the hub and run; the model's default is taken
    config._attn_implementation = None
    check_supported(config, settings.name)
    return config


def check_supported(config: PreTrainedConfig, name: str) -> None:
    """Raises SettingsError for an architecture that decoding cannot use; `name` is what the message calls
    it."""
    if not config.is_encoder_decoder and (what := _not_supported(config)):
        raise SettingsError(
            f'the model "{name}" ("{config.model_type}") {what}, which is not supported; choose a decoder-only model with full '
            "attention, or one of the T5 family."
        )
    if config.is_encoder_decoder and not hasattr(config, "scale_decoder_outputs"):
        raise SettingsError(
            f'the model "{name}" is an encoder-decoder of the kind "{config.model_type}", and only the T5 family is '
            "supported; choose one of that family or a decoder-only model."
        )


def read_tokenizer(settings: PretrainedSettings) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, of a GGUF file or of the hub. Raises MissingFile."""
    tokenizer = _read(PreTrainedTokenizerFast if _is_whole(Path(settings.name)) else AutoTokenizer, settings)
    if file := gguf_file(settings.name):
        fix_tokenizer(tokenizer, file)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = (
            tokenizer.eos_token
        )  # what fills a batch up is masked or never looked at, so any token does
    return tokenizer


def _is_whole(folder: Path) -> bool:
    """Whether a tokenizer is all in its tokenizer.json, by its own word, as one that `Backbone.save` wrote.
    AutoTokenizer would believe the model's kind instead, and put Qwen's own way of cutting text in its
    place."""
    config = folder / "tokenizer_config.json"
    kinds = ("TokenizersBackend", "PreTrainedTokenizerFast")
    if not config.exists():
        return False
    try:
        return json.loads(config.read_text("utf-8")).get("tokenizer_class") in kinds
    except (ValueError, AttributeError, RecursionError):
        raise UnreadableFile(f'"{config}" is damaged; fetch it again.') from None


def family_of(config: PreTrainedConfig) -> str:
    """ "encoder-decoder" or "decoder-only"."""
    return "encoder-decoder" if config.is_encoder_decoder else "decoder-only"


def check_config(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raises SettingsError where a token that every sample needs is not named."""
    needed = {"pad token": tokenizer.pad_token_id}
    if config.is_encoder_decoder:
        needed |= {
            "end token": tokenizer.eos_token_id,
            "decoder_start_token_id": getattr(config, "decoder_start_token_id", None),
        }
    for what, token in needed.items():
        if token is None:
            raise SettingsError(
                f'the model "{name}" names no {what}; add it to its config or tokenizer files, or choose another.'
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
    """The backbone of a model whose tokenizer has learnt `symbols` and the line break, each as one token of
    its own."""
    known = len(tokenizer)
    taught(tokenizer, symbols)
    _grow(model, known, len(tokenizer))
    model.set_input_embeddings(
        model.get_input_embeddings()
    )  # a T5's three names of it become one module, as sharding needs
    return _backbone(model, tokenizer, precision)


def taught(tokenizer: PreTrainedTokenizerBase, symbols: Sequence[str]) -> PreTrainedTokenizerBase:
    """The same tokenizer, which has learnt `symbols` and the line break, each as one token of its own."""
    if not tokenizer.encode("\n", add_special_tokens=False):
        tokenizer.add_tokens(
            [AddedToken(word, normalized=False) for word in TEXT_WORDS], special_tokens=False
        )
    tokenizer.add_tokens([AddedToken(symbol, normalized=False) for symbol in symbols], special_tokens=True)
    return tokenizer


def _not_supported(config: PreTrainedConfig) -> str:
    """What keeps a config without an encoder from being trained and decoded here, in words; "" where nothing
    does.

    A window may be named by layer, or by `sliding_window` for all of them (Mistral, Phi3), which Qwen's
    `use_sliding_window` can switch off. A model is called stateful by transformers where its cache cannot be
    cut back to an earlier token (Mamba, RWKV).
    """
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return "is no language model that writes from left to right"
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
        return "reads its text from both sides"
    text = config.get_text_config()
    layers = getattr(text, "layer_types", None)
    others = sorted({str(layer) for layer in layers or ()} - {"full_attention"})
    every = (
        layers is None and getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True)
    )
    if every or "sliding_attention" in others or "local" in getattr(text, "attention_layers", ()):
        return "attends through a sliding window"
    if others:
        return f"has layers of the kind {', '.join(others)}"
    return (
        "keeps a state in place of attention"
        if MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]._is_stateful
        else ""
    )


def _read(opener: Any, settings: PretrainedSettings, **more: Any) -> Any:
    """Open a part of the model; what the hub or the folder lacks comes as one sentence."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # it warns that FLAN-T5's two embeddings differ, which is as it should be
    file = gguf_file(settings.name)
    if file:
        check_reader()
        more = {**more, "gguf_file": file.name}
    try:
        position = str(file.parent) if file else settings.name
        return opener.from_pretrained(position, revision=settings.revision, trust_remote_code=False, **more)
    except SafetensorError as error:
        raise UnreadableFile(
            f'the weights of "{settings.name}" are damaged or cut short ({error}); fetch or train it again.'
        ) from None
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        if Path(settings.name).exists():
            raise MissingFile(
                f'"{settings.name}" holds no model that can be read ({reason}); fetch it whole, or mend the path.'
            ) from None
        raise MissingFile(
            f'the model "{settings.name}" can be read neither from a folder nor from the hub ({reason}); check pretrained.name and the '
            "network, or fetch the model on another machine and give the path of its folder."
        ) from None


def _released(settings: PretrainedSettings, config: PreTrainedConfig) -> PreTrainedModel:
    """The weights as they were released, in fp32; safetensors or GGUF only, since a pickle may run
    anything."""
    in_full = {"quantization_config": GgufConfig(dequantize=True)} if gguf_file(settings.name) else {}
    model = _read(
        _opener(config), settings, config=config, dtype=torch.float32, use_safetensors=True, **in_full
    )
    _record_tying(model)
    return model.eval()


def _whole(folder: Path, settings: PretrainedSettings, config: PreTrainedConfig) -> PreTrainedModel:
    """The weights of a folder, which are those of its config to the last one. Raises ValueError where they
    are not."""
    if getattr(config, "quantization_config", None):
        raise ValueError("its config asks for quantised weights, which shelftalk never saves")
    check_repeats(folder, config)
    with torch.device("meta"):
        # of a copy, since building changes what a T5's config says of its matrices
        built = from_random_weights(copy.deepcopy(config))
    check_size(folder, built)
    model, loaded = _read(
        _opener(config),
        settings,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        output_loading_info=True,
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loaded[kind]:
            raise ValueError(f"its weights and its config differ in {min(map(str, loaded[kind]))}")
    _record_tying(model)
    return model


def _opener(config: PreTrainedConfig) -> Any:
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def _backbone(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, precision: Precision) -> Backbone:
    family = family_of(model.config)
    products = product_type(precision, family)
    kind = EncoderDecoder if family == "encoder-decoder" else DecoderOnly
    return kind(model, tokenizer, products == torch.bfloat16, products == torch.float16)


def _tied(config: PreTrainedConfig) -> bool:
    """Whether output and input embeddings are one matrix. T5Config says "tied" of every T5; what its file
    said about FLAN-T5, whose are two, is left in `scale_decoder_outputs` alone (transformers 5)."""
    return bool(getattr(config, "scale_decoder_outputs", config.tie_word_embeddings))


def _own_output_layer(model: PreTrainedModel) -> None:
    """Give the model an output matrix of its own, drawn with the spread that its inputs have."""
    layer = model.get_output_embeddings()
    layer.weight = torch.nn.Parameter(
        torch.empty_like(layer.weight).normal_(0, model.config.hidden_size**-0.5)
    )
    _record_tying(model)


def _record_tying(model: PreTrainedModel) -> None:
    """Make the config say what is so: growing or saving a model "tied" in name only would tie it in truth,
    and lose a matrix."""
    model.config.tie_word_embeddings = (
        model.get_output_embeddings().weight is model.get_input_embeddings().weight
    )


def _grow(model: PreTrainedModel, known: int, tokens: int) -> None:
    """Make room for `tokens`; the rows behind the `known` ones start at their mean, so that none is
    preferred."""
    if tokens > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(rounded_up(tokens, VOCABULARY_STEP), mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[known:] = layer.weight[:known].mean(dim=0)
