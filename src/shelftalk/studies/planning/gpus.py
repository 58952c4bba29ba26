"""What GPUs can do, as data.

Peaks are the maker's own, of dense matrix products: where a data sheet gives figures with sparsity, half of
them. They were compared with public copies and quotations of the sources named, not with the documents
themselves. Two are weaker: the RTX 3090's bf16 is quoted second-hand and agrees with its whitepaper's 512
fp16 products per multiprocessor and cycle, halved for fp32 sums; the H200's are the H100's, whose chip it
has.
"""

from __future__ import annotations

from dataclasses import dataclass

from shelftalk.errors import UnknownPart, nearest
from shelftalk.models.settings import Precision


@dataclass(frozen=True)
class Gpu:
    """`memory` in GB; peaks in 10^12 operations a second. `bf16`: matrix units with fp32 sums, the same for
    fp16. `fp32`: without matrix units, since torch rounds fp32 products to TF32 only on request, and nothing
    here requests it."""

    name: str
    memory: float
    bf16: float
    fp32: float
    source: str

    def peak(self, precision: Precision) -> float:
        """For a setting of training.precision; "auto" is bf16, which every GPU of the table has."""
        return self.fp32 if precision == "fp32" else self.bf16


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("rtx-3090", 24, 71, 35.6, "NVIDIA Ampere GA102 whitepaper 2.0, appendix A"),
        Gpu("rtx-4090", 24, 165.2, 82.6, "NVIDIA Ada whitepaper 2.1, appendix A"),
        Gpu("l4", 24, 121, 30.3, "NVIDIA L4 data sheet"),
        Gpu("a10", 24, 125, 31.2, "NVIDIA A10 data sheet"),
        Gpu("l40s", 48, 362, 91.6, "NVIDIA L40S data sheet"),
        Gpu("a100-40gb", 40, 312, 19.5, "NVIDIA A100 data sheet"),
        Gpu("a100-80gb", 80, 312, 19.5, "NVIDIA A100 data sheet"),
        Gpu("h100-80gb", 80, 989, 67, "NVIDIA H100 SXM data sheet"),
        Gpu("h200", 141, 989, 67, "NVIDIA H200 SXM data sheet"),
    )
}


def gpu_named(name: str) -> Gpu:
    """Raises UnknownPart, which names the nearest known one."""
    if name not in GPUS:
        raise UnknownPart(f'there is no GPU "{name}" in the table; {nearest(name, GPUS)}')
    return GPUS[name]
