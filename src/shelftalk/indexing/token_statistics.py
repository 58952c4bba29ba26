"""What the names of an index cost in a model's own tokens, before any training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from shelftalk.indexing.item_index import ItemIndex

Tokens = Callable[[str, bool], list[int]]
"""(text, whether it is a run of symbols) -> token ids, as `Backbone.tokens`."""


def token_statistics(index: ItemIndex, tokens: Tokens) -> dict[str, Any]:
    """Figures of the names as the model says them, ends included:

    - `tokens_min`, `tokens_mean`, `tokens_p95`, `tokens_max`: tokens of a name.
    - `tokens_until_unique`: mean number of leading tokens that only one item has; what follows them carries no choice.
    - `shared_prefixes`: different beginnings that more than one item has, the empty one aside.
    - `trie_nodes`: different beginnings in all, the root aside.
    - `told_apart_by_last_level`: items that share all symbols but the last with another, and their share of the catalogue.
    - `symbols`: tokens that the names add to the vocabulary.
    """
    said = [
        tuple(t for s in index.segments(item) for t in tokens(s.text, s.symbols)) for item in index.item_ids
    ]
    said.sort()
    lengths = np.array([len(name) for name in said])
    alike = np.array([_common(one, other) for one, other in zip(said, said[1:], strict=False)], np.int64)
    before, after = np.append(0, alike), np.append(alike, 0)
    return {
        "scheme": index.scheme,
        "items": len(said),
        "tokens_min": int(lengths.min()),
        "tokens_mean": float(lengths.mean()),
        "tokens_p95": float(np.percentile(lengths, 95)),
        "tokens_max": int(lengths.max()),
        "tokens_until_unique": float(np.minimum(np.maximum(before, after) + 1, lengths).mean()),
        "shared_prefixes": _shared(alike),
        "trie_nodes": int((lengths - before).sum()),
        "told_apart_by_last_level": index.told_apart,
        "told_apart_share": index.told_apart / len(said),
        "symbols": len(index.vocabulary),
        "leaks": index.leaks,
    }


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Leading tokens that two names share."""
    for position, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return position
    return min(len(one), len(other))


def _shared(alike: np.ndarray) -> int:
    """Different beginnings, the empty one aside, that neighbours of the sorted names share: each of them is
    counted where it begins, one per token by which a pair shares more than the pair before it."""
    return int(np.maximum(np.diff(np.append(0, alike)), 0).sum())
