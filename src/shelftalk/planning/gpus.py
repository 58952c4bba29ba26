"""What GPUs can do, as data."""

from __future__ import annotations

from dataclasses import dataclass

from shelftalk.errors import UnknownPart, nearest


@dataclass(frozen=True)
class Gpu:
    """`memory` in GB, `bf16` in 10^12 operations a second: dense matrix products with fp32 sums, as the maker's data sheet has it."""

    name: str
    memory: float
    bf16: float
    source: str


_SHEET = "NVIDIA {} data sheet, figure without sparsity"
GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("rtx-3090", 24, 71, "NVIDIA Ampere GA102 whitepaper"),
        Gpu("rtx-4090", 24, 165, "NVIDIA Ada whitepaper"),
        Gpu("l4", 24, 121, _SHEET.format("L4")),
        Gpu("a10", 24, 125, _SHEET.format("A10")),
        Gpu("l40s", 48, 362, _SHEET.format("L40S")),
        Gpu("a100-40gb", 40, 312, _SHEET.format("A100")),
        Gpu("a100-80gb", 80, 312, _SHEET.format("A100")),
        Gpu("h100-80gb", 80, 989, _SHEET.format("H100 SXM")),
        Gpu("h200", 141, 989, _SHEET.format("H200 SXM")),
    )
}


def gpu_named(name: str) -> Gpu:
    """Raises UnknownPart, which names the nearest known one."""
    if name not in GPUS:
        raise UnknownPart(f'there is no GPU "{name}" in the table; {nearest(name, GPUS)}')
    return GPUS[name]
