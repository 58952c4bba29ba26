"""p-values of several comparisons, adjusted for their number: below .05 means what it says for all of them
together.

Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2),
1979: the chance of even one false claim stays below the level, whatever the dependence between the tests.
Benjamini and Hochberg, "Controlling the false discovery rate", Journal of the Royal Statistical Society B
57(1), 1995: of the claims made, the expected share of false ones does, for tests that are independent or
positively dependent.

Legend: m p-values, p_(1) <= ... <= p_(m).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

Correction = Literal["holm", "benjamini_hochberg"]


def holm(ps: Sequence[float]) -> list[float]:
    """max over j <= i of (m - j + 1) p_(j), at most 1: step-down, in the order given."""
    order = np.argsort(ps, kind="stable")
    steps = np.asarray(ps, np.float64)[order] * np.arange(len(ps), 0, -1)
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted.tolist()


def benjamini_hochberg(ps: Sequence[float]) -> list[float]:
    """min over j >= i of m p_(j) / j, at most 1: step-up, in the order given."""
    order = np.argsort(ps, kind="stable")
    steps = np.asarray(ps, np.float64)[order] * len(ps) / np.arange(1, len(ps) + 1)
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(steps[::-1])[::-1])
    return adjusted.tolist()


CORRECTIONS: dict[Correction, Callable[[Sequence[float]], list[float]]] = {
    "holm": holm,
    "benjamini_hochberg": benjamini_hochberg,
}
CORRECTION_NAMES: dict[Correction, str] = {"holm": "Holm", "benjamini_hochberg": "Benjamini and Hochberg"}
