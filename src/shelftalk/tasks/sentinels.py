"""T5's sentinels, which stand for masked text; every backbone encodes each as a single token."""

from __future__ import annotations

from shelftalk.records import Segment

SENTINELS = 100
"""How many there are, as in T5 (Raffel et al., JMLR 2020)."""


def sentinel(number: int) -> Segment:
    """The sentinel `number` (0 .. 99)."""
    if not 0 <= number < SENTINELS:
        raise ValueError(f"there are sentinels 0 to {SENTINELS - 1}, not {number}")
    return Segment(f"<extra_id_{number}>", symbols=True)


def all_sentinels() -> list[str]:
    """The symbols of all sentinels."""
    return [sentinel(number).text for number in range(SENTINELS)]
