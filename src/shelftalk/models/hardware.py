"""What the processor or GPU can do."""

from __future__ import annotations

from typing import Literal

import torch


def has_bf16() -> bool:
    """Whether bf16 matrix products run in hardware: AMX or AVX-512 BF16 on x86, the bf16 extension on ARM, or a GPU's own."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def wants_bf16(setting: Literal["auto", "on", "off"]) -> bool:
    """The setting, with "auto" decided by the hardware."""
    return has_bf16() if setting == "auto" else setting == "on"
