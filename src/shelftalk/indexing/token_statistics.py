"""How many tokens of a model the names of an index take, before any training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from shelftalk.indexing.item_index import ItemIndex

Tokens = Callable[[str, bool], list[int]]
"""(text, whether it consists of symbols) -> token ids, as `Backbone.tokens`."""


def token_statistics(index: ItemIndex, tokens: Tokens) -> dict[str, Any]:
    """Figures of the names as the model generates them, ends included:

    - `tokens_min`, `tokens_mean`, `tokens_p95`, `tokens_max`: tokens of a name.
    - `tokens_until_unique`: mean length of the shortest prefix that only one item has; the tokens after it
      are determined.
    - `shared_prefixes`: distinct prefixes, not empty, that more than one item has.
    - `trie_nodes`: all distinct prefixes, not empty.
    - `collisions`: items that share all symbols but the last with another; `collision_share` of the
      catalogue.
    - `symbols`: tokens that the names add to the vocabulary.
    """
    names = sorted(
        tuple(t for s in index.segments(item) for t in tokens(s.text, s.symbols)) for item in index.item_ids
    )
    lengths = np.array([len(name) for name in names])
    common = np.array([_common(one, other) for one, other in zip(names, names[1:], strict=False)], np.int64)
    before, after = np.append(0, common), np.append(common, 0)
    return {
        "scheme": index.scheme,
        "items": len(names),
        "tokens_min": int(lengths.min()),
        "tokens_mean": float(lengths.mean()),
        "tokens_p95": float(np.percentile(lengths, 95)),
        "tokens_max": int(lengths.max()),
        "tokens_until_unique": float(np.minimum(np.maximum(before, after) + 1, lengths).mean()),
        "shared_prefixes": _shared(common),
        "trie_nodes": int((lengths - before).sum()),
        "collisions": index.collisions,
        "collision_share": index.collisions / len(names),
        "symbols": len(index.vocabulary),
        "leaks": index.leaks,
    }


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Leading tokens that two names share."""
    for position, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return position
    return min(len(one), len(other))


def _shared(common: np.ndarray) -> int:
    """Distinct prefixes, not empty, that neighbours of the sorted names share; `common` is the number of
    tokens that each pair shares. A pair adds as many as it shares more than the pair before it:
    [2, 2, 0, 1] -> 2 + 0 + 0 + 1."""
    return int(np.maximum(np.diff(np.append(0, common)), 0).sum())
