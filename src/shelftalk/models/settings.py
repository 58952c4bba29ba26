"""The families of backbones and their settings, in a file that loads without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from shelftalk.declarations import Family
from shelftalk.settings import Role, Settings

Precision = Literal["auto", "bf16", "fp32", "fp16"]
FP16_ON_T5 = (
    "T5 was trained in bf16, and its activations overflow fp16 to NaN (transformers issues 4586, 9295 and "
    '23918); set training.precision = "bf16" or "fp32"'
)
FAMILIES: dict[str, Family] = {
    "decoder-only": Family("shelftalk.models.decoder_only:DecoderOnly", nano="shelftalk.models.nano:llama"),
    "encoder-decoder": Family(
        "shelftalk.models.encoder_decoder:EncoderDecoder",
        nano="shelftalk.models.nano:t5",
        encoder=True,
        why_no_fp16=FP16_ON_T5,
    ),
}


class PretrainedSettings(Settings):
    """Which pretrained model is fine-tuned, in place of the nano model."""

    role = Role(stages=("train",), tunable=True, changes_loss=True)
    name: str = ""
    """A name on the Hugging Face hub, such as "google/flan-t5-base", a folder, or a GGUF file; "": the nano
    model, from scratch."""
    revision: str = "main"
    """Branch, tag or commit of a model on the hub."""
    random_weights: bool = False
    """Take architecture and tokenizer of `name` but random weights: to compare with, and for trials."""
    adaptation: Literal["full", "lora"] = "full"
    """Train every weight, or small adapters beside frozen ones and the vectors of the new tokens (LoRA)."""
    lora_rank: int = Field(16, ge=1)
    """Rank of the adapters: how many directions each of them can turn a layer in."""
    lora_alpha: int = Field(32, ge=1)
    """What an adapter adds is multiplied by this over `lora_rank`."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of an adapter's input that is dropped in training."""
    lora_targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of the layers that get an adapter, such as ["q_proj", "v_proj"]; "all-linear": every one but the
    output layer."""

    @model_validator(mode="after")
    def _adapters_need_a_model(self) -> PretrainedSettings:
        if self.adaptation == "lora" and not self.name:
            raise ValueError(
                "adapters are trained beside a pretrained model; set pretrained.name, or "
                'pretrained.adaptation = "full"'
            )
        return self


class NanoSettings(Settings):
    """Size of the nano backbone."""

    role = Role(stages=("train",), tunable=True)
    family: Annotated[Literal["decoder-only", "encoder-decoder"], Role(changes_loss=True)] = "decoder-only"
    """One text read from left to right (Llama), or source and target (T5)."""
    vocabulary: Annotated[int, Role(changes_loss=True)] = Field(2000, ge=300, le=100_000)
    """Pieces of text in the tokenizer, made from catalogue and templates; symbols of item names are
    added to them."""
    width: int = Field(128, ge=16)
    """Width of the hidden states; an even multiple of `heads`."""
    layers: int = Field(4, ge=1)
    """Layers; for an encoder-decoder half of them on either side, at least one."""
    heads: int = Field(4, ge=1)
    """Attention heads."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share dropped in training: of attention weights (decoder-only) or of all activations
    (encoder-decoder)."""
    hidden_dropout: float = Field(0.0, ge=0, lt=1)
    """Decoder-only: share dropped in training of token vectors and of what each attention and feed-forward
    block adds to the hidden states."""
    symbol_spread: float = Field(5.0, gt=0)
    """Spread of the starting vectors that an item index gives its symbols, as a multiple of the random
    ones' spread."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> NanoSettings:
        if self.width % (2 * self.heads):
            twice = 2 * self.heads
            raise ValueError(
                f"the width {self.width} is no multiple of {twice}, twice the heads; set nano.width to a "
                f"multiple of {twice}, or nano.heads so that twice of it divides the width"
            )
        return self
