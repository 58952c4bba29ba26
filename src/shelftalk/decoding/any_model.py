"""A transformers model that the caller has loaded, wrapped as a backbone, or refused where it is
not supported."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from shelftalk.decoding.decoded_tree import overflow
from shelftalk.errors import SettingsError
from shelftalk.models.backbone import Backbone
from shelftalk.models.pretrained import check_config, check_supported, family_of
from shelftalk.models.settings import FAMILIES
from shelftalk.models.text_encoder import Encoded

ATTENTIONS = ("eager", "sdpa", "shelftalk_fp32")
"""Implementations of attention that take a mask of any shape, which a tree of tokens needs."""
PROBE_TOKENS = 4
"""Tokens on which a model is checked when it is wrapped."""
TOLERANCE = {torch.float64: 1e-2, torch.float32: 1e-2}
"""By how many nats a search may differ from the model's own forward pass, by the precision of the weights."""
TOLERANCE_IN_HALF = 0.5


def wrapped(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, end: int) -> Backbone:
    """The backbone of a model and its tokenizer, neither of them changed. `end`: the token to pad with, where
    there is no pad token.

    Raises SettingsError for a model that cannot be searched.
    """
    if not isinstance(model, PreTrainedModel):
        raise SettingsError(
            f"a {type(model).__name__} is no transformers model; give the model inside (of a PeftModel, "
            "get_base_model())."
        )
    name = model.config.name_or_path or type(model).__name__
    _check_supported(model, name)
    attention = model.config._attn_implementation
    if attention not in ATTENTIONS:
        raise SettingsError(
            f'the model "{name}" attends by "{attention}", which takes no mask of a tree; call '
            'model.set_attn_implementation("sdpa") first.'
        )
    if tokenizer.pad_token_id is None:  # a copy gets one: nothing attends to it
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(end)
    check_config(model.config, tokenizer, name)
    result: Backbone = FAMILIES[family_of(model.config)].load()(model, tokenizer)
    return result


@contextmanager
def eval_mode(model: PreTrainedModel) -> Iterator[None]:
    """Without dropout; afterwards every module is in the mode in which it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@torch.no_grad()
def check_agreement(backbone: Backbone, name: np.ndarray) -> None:
    """Raises SettingsError where a tree of tokens of the string `name` does not give what the model's own
    forward pass gives: positions may be those of entries in the cache (ALiBi), or the output may be scaled
    after the output layer (Cohere, Granite)."""
    model, ids = backbone.model, np.resize(name, PROBE_TOKENS).tolist()
    prompt, first, second = ids[:-1], ids[-1], ids[0]
    with eval_mode(model):
        prefilled = backbone.prefill([encoded(prompt)])
        parents, tokens = (
            torch.tensor([row], device=backbone.device) for row in ([-1, -1, 1], [second, first, second])
        )
        # node 2, whose path is nodes 1 and 2: in the cache, node 0 lies between the prompt and them
        in_tree = prefilled.extend(parents, tokens)[0, 2]
        in_forward = _forward_logits(backbone, prompt, [first, second]).float().log_softmax(-1)
    difference = float((in_forward - in_tree).abs().max())
    if not np.isfinite(difference):
        raise overflow()
    if difference > TOLERANCE.get(model.dtype, TOLERANCE_IN_HALF):
        raise SettingsError(
            f"searched as a tree, a {type(model).__name__} differs from its own forward pass (by "
            f"{difference:.2f} nats), so it is not supported; use TrieLogitsProcessor with its own generate."
        )


def encoded(ids: Sequence[int]) -> Encoded:
    """A prompt of these tokens."""
    return Encoded(np.array(ids, np.int32), np.zeros(len(ids), bool))


def _forward_logits(backbone: Backbone, prompt: Sequence[int], tokens: Sequence[int]) -> torch.Tensor:
    """[V] what the model's own forward pass gives after the prompt and the tokens."""
    model, device = backbone.model, backbone.device
    if not backbone.declaration.encoder:
        logits: torch.Tensor = model(input_ids=torch.tensor([[*prompt, *tokens]], device=device)).logits
        return logits[0, -1]
    source = torch.tensor([[*prompt, backbone.tokenizer.eos_token_id]], device=device)
    target = torch.tensor([[model.config.decoder_start_token_id, *tokens]], device=device)
    logits = model(input_ids=source, decoder_input_ids=target).logits
    return logits[0, -1]


def _check_supported(model: PreTrainedModel, name: str) -> None:
    """Raises SettingsError as `read_config` does, and for a decoder-only model whose parts have
    other names."""
    config: PreTrainedConfig = model.config
    check_supported(config, name)
    if not config.is_encoder_decoder and not (hasattr(model, "model") and hasattr(model, "lm_head")):
        raise SettingsError(
            f'the model "{name}" ("{config.model_type}") has other parts than `model` and `lm_head`, which '
            "is not supported; use TrieLogitsProcessor with its own generate."
        )
