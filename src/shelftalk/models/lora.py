"""Adapters beside frozen weights (Hu et al., "LoRA", ICLR 2022), by the peft library.

The adapters are put into the model in place, so its layers keep their names. A Trainer is given
`module_to_train(model)`, whose checkpoints hold the adapters alone; `merge(model)` makes a plain
model of it again.
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

_PEFT_MODEL = "_shelftalk_peft_model"
"""The attribute of a model that holds the PeftModel around it, in a tuple: torch would register a bare module
as a submodule, of which it is the parent."""


class _AdapterModel(PeftModel):
    """Saves no whole embeddings in a checkpoint, for which peft would look up their released size on the hub:
    the extended model is made again from the same settings, and its new rows are saved with the adapters."""

    def save_pretrained(self, *folder: Any, **options: Any) -> None:
        super().save_pretrained(*folder, **{**options, "save_embedding_layers": False})


def add_adapters(model: PreTrainedModel, tokens: Sequence[int], settings: PretrainedSettings) -> None:
    """Freeze the model and add adapters, drawn by torch's seed, that change no output yet. The rows `tokens`
    of its embeddings stay trainable, in both matrices where input and output are not tied.

    Raises SettingsError where no layer has a name of `settings.lora_targets`, or the output layer has it.
    """
    targets = settings.lora_targets
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        trainable_token_indices={name: list(tokens) for name in _embedding_names(model)} if tokens else None,
    )
    layers = _linear_layer_names(model)
    try:
        # peft uses an attribute that transformers deprecates
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            peft_model = _AdapterModel(model, config)
    except (ValueError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise SettingsError(
            f"the model takes no adapter at pretrained.lora_targets ({reason}); choose among "
            f'{", ".join(layers)}, or "all-linear".'
        ) from None
    # a T5's encoder and decoder have the embeddings under names that peft does not replace
    model.set_input_embeddings(model.get_input_embeddings())
    model.train(model.training)  # peft makes adapters in training mode, with dropout
    setattr(model, _PEFT_MODEL, (peft_model,))


def has_adapters(model: PreTrainedModel) -> bool:
    """Whether `add_adapters` was called and `merge` was not."""
    return hasattr(model, _PEFT_MODEL)


def module_to_train(model: PreTrainedModel) -> torch.nn.Module:
    """The module that a Trainer is given: the model itself, or the PeftModel around it, which saves and loads
    the adapters alone."""
    result: torch.nn.Module = getattr(model, _PEFT_MODEL)[0] if has_adapters(model) else model
    return result


def merge(model: PreTrainedModel) -> None:
    """Add the adapters to the weights beside them and remove them, in place: a plain model of the same
    log-probabilities up to rounding, all of it trainable. A model without adapters is not changed."""
    if not has_adapters(model):
        return
    tied = model.config.tie_word_embeddings
    getattr(model, _PEFT_MODEL)[0].merge_and_unload()
    delattr(model, _PEFT_MODEL)
    model.set_input_embeddings(model.get_input_embeddings())
    model.config.tie_word_embeddings = tied
    model.requires_grad_(True)


def _linear_layer_names(model: PreTrainedModel) -> list[str]:
    """The names that `lora_targets` may hold: of all linear layers but the output layer, whose rows of new
    tokens are trained themselves."""
    output = model.get_output_embeddings()
    linear = (
        name
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer is not output
    )
    return sorted({name.rpartition(".")[2] for name in linear})


def _embedding_names(model: PreTrainedModel) -> list[str]:
    """The full names of input and output embeddings; the first alone where they are tied, since peft ties the
    second to it."""
    layers = [model.get_input_embeddings()]
    if model.get_output_embeddings().weight is not layers[0].weight:
        layers.append(model.get_output_embeddings())
    name_of = {id(layer): name for name, layer in model.named_modules()}
    return [name_of[id(layer)] for layer in layers]
