"""The published counts of Beauty and Sports, from every format that has them."""

from __future__ import annotations

from benchmarks._published_counts import COUNTS_CLAIM, SAME_CLAIM, SEED, published_counts
from benchmarks.harness import Result

CLAIMS = [COUNTS_CLAIM, SAME_CLAIM]


def main(quick: bool) -> Result:
    """The same with --quick: it is quick."""
    claims, rows, hashes = published_counts()
    return Result(SEED, claims, rows, hashes)
