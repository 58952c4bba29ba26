"""What the processor or GPU can do."""

from __future__ import annotations

import torch

from shelftalk.errors import SettingsError
from shelftalk.models.settings import FAMILIES, Precision


def has_bf16() -> bool:
    """Whether bf16 matrix products run in hardware: AMX or AVX-512 BF16 on x86, the bf16 extension on ARM, or
    a GPU's own."""
    if torch.cuda.is_available():
        result: bool = torch.cuda.is_bf16_supported()
        return result
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def product_type(setting: Precision, family: str) -> torch.dtype:
    """The type that a backbone's matrix products are computed in; "auto" depends on the hardware.

    Raises SettingsError for fp16 with an encoder-decoder or without a GPU (see `fp16_refusal`).
    """
    if refusal := fp16_refusal(setting, family, torch.cuda.is_available()):
        raise SettingsError(refusal)
    if setting == "auto":
        return torch.bfloat16 if has_bf16() else torch.float32
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[setting]


def inference_precision(trained: Precision, family: str) -> Precision:
    """The precision that a trained model computes in on this machine: that of its training, or fp32, which
    its weights have anyway, where the machine or the family does not support it."""
    if trained == "fp16" and fp16_refusal(trained, family, torch.cuda.is_available()):
        return "fp32"
    return "fp32" if trained == "bf16" and not has_bf16() else trained


def fp16_refusal(setting: Precision, family: str, gpu: bool) -> str:
    """Why the precision cannot work, in a sentence with the remedy; "" where it can."""
    if setting != "fp16":
        return ""
    if reason := FAMILIES[family].why_no_fp16:
        return f"{reason}."
    if gpu:
        return ""
    remedy = 'set training.precision = "auto", in another --out'
    return f"fp16 products need a GPU, and there is none here; {remedy}."


def device() -> torch.device:
    """The device of a model: the GPU if there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
