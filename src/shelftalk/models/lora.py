"""Adapters beside frozen weights (Hu et al., "LoRA", ICLR 2022), by the peft library. Legend: V vocabulary, H
hidden width.

The adapters are put into the model in place: whoever calls its layers by name finds them where they were.
What a Trainer is handed is `trained_part(model)`, whose checkpoints hold the adapters alone; `merge(model)`
makes a plain model of it again.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel

from shelftalk.errors import SettingsError
from shelftalk.models.settings import PretrainedSettings

_KEPT = "_adapters_around"
"""Where a model keeps the PeftModel that it stands in; inside a tuple, since a submodule may not hold its own
parent."""


class _Around(PeftModel):
    """Leaves the whole embeddings out of a checkpoint, for which peft would ask the hub how large they were:
    the grown model is made again from the same settings, and what its new rows have learnt is among the
    adapters."""

    def save_pretrained(self, *where: Any, **more: Any) -> None:
        super().save_pretrained(*where, **{**more, "save_embedding_layers": False})


def add_adapters(model: PreTrainedModel, tokens: Sequence[int], settings: PretrainedSettings) -> None:
    """Freeze the model and give it adapters, drawn by torch's seed, that change nothing yet. The rows
    `tokens` of its embeddings stay trainable: those of input and output where they are two matrices, one and
    the same where they are tied.

    Raises SettingsError where no layer has a name of `settings.lora_targets`, or the output layer has it.
    """
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=settings.lora_targets
        if isinstance(settings.lora_targets, str)
        else list(settings.lora_targets),
        trainable_token_indices={name: list(tokens) for name in _embedding_names(model)} if tokens else None,
    )
    output = (
        model.get_output_embeddings()
    )  # its rows of new tokens are trained as they are, and take no adapter beside
    linear = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer is not output
    ]
    layers = sorted({name.rpartition(".")[2] for name, _ in linear})
    try:
        with warnings.catch_warnings(
            action="ignore", category=FutureWarning
        ):  # peft asks by a name that transformers gives up
            around = _Around(model, config)
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"the model takes no adapter at pretrained.lora_targets ({str(error).strip().partition(chr(10))[0].rstrip('.')}); "
            f'choose among {", ".join(layers)}, or "all-linear".'
        ) from None
    model.set_input_embeddings(
        model.get_input_embeddings()
    )  # a T5's encoder and decoder have it under names that peft leaves out
    model.train(model.training)  # adapters are born in training mode, and would drop what they read
    setattr(model, _KEPT, (around,))


def has_adapters(model: PreTrainedModel) -> bool:
    """Whether `add_adapters` was called and `merge` was not."""
    return hasattr(model, _KEPT)


def trained_part(model: PreTrainedModel) -> torch.nn.Module:
    """What is handed to a Trainer: the model itself, or the PeftModel around it, which saves and loads the
    adapters alone."""
    return getattr(model, _KEPT)[0] if has_adapters(model) else model


def merge(model: PreTrainedModel) -> None:
    """Add what the adapters have learnt to the weights beside them and take the adapters out, in place: a
    plain model of the same log-probabilities, but for rounding, all of it trainable. A model without adapters
    is left alone."""
    if not has_adapters(model):
        return
    tied = model.config.tie_word_embeddings
    getattr(model, _KEPT)[0].merge_and_unload()
    delattr(model, _KEPT)
    model.set_input_embeddings(model.get_input_embeddings())
    model.config.tie_word_embeddings = tied
    model.requires_grad_(True)


def _embedding_names(model: PreTrainedModel) -> list[str]:
    """The full names of input and output embeddings; the first alone where they are tied, since peft ties the
    second to it."""
    wanted = [model.get_input_embeddings()]
    if model.get_output_embeddings().weight is not wanted[0].weight:
        wanted.append(model.get_output_embeddings())
    name_of = {id(layer): name for name, layer in model.named_modules()}
    return [name_of[id(layer)] for layer in wanted]
