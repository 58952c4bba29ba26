"""The menu: every built-in part by name. Where a name is accepted, so is "their_package.module:Thing"."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from shelftalk.errors import UnknownPart, nearest
from shelftalk.runtime.own_source import source_of

INDEXINGS = {
    "atomic": "shelftalk.indexing.atomic:build",
    "collaborative": "shelftalk.indexing.collaborative:build",
    "mixed": "shelftalk.indexing.mixed:build",
    "numbers": "shelftalk.indexing.numbers:build",
    "semantic": "shelftalk.indexing.semantic:build",
    "sequential": "shelftalk.indexing.sequential:build",
    "titles": "shelftalk.indexing.titles:build",
}
LEAKING = ("sequential",)
"""Schemes whose names tell of held-out events: in no list unless they are asked for by name."""
TASKS = {
    "retrieval": "shelftalk.tasks.retrieval:RetrievalTask",
    "ranking": "shelftalk.tasks.ranking:RankingTask",
    "rating": "shelftalk.tasks.rating:RatingTask",
    "masked_items": "shelftalk.tasks.masked_items:MaskedItems",
    "masked_language": "shelftalk.tasks.masked_language:MaskedLanguage",
    "pairwise_preference": "shelftalk.tasks.pairwise_preference:PairwisePreference",
    "name_to_text": "shelftalk.tasks.item_meaning:NameToText",
    "text_to_name": "shelftalk.tasks.item_meaning:TextToName",
    "alike_item": "shelftalk.tasks.item_meaning:AlikeItem",
}
SERVED: tuple[Literal["retrieval", "ranking", "rating"], ...] = ("retrieval", "ranking", "rating")
"""The tasks that a finished model is asked, each with a way of evaluating it."""
MODELS = {
    "aligned": "shelftalk.assemble:build_aligned",
    "aligned+prior": "shelftalk.assemble:build_aligned_with_prior",
    "item_knn": "shelftalk.assemble:build_item_knn",
    "popularity": "shelftalk.assemble:build_popularity",
    "bias": "shelftalk.assemble:build_bias",
    "global_mean": "shelftalk.assemble:build_global_mean",
}
READ_BY = {
    "aligned": ("decoding",),
    "aligned+prior": ("decoding", "prior"),
    "item_knn": ("item_knn",),
    "popularity": (),
    "bias": ("bias",),
    "global_mean": (),
}
"""Sections of the experiment that a built-in model's answers stand on, beside its data, its training and, of
"aligned+prior", what its priors read. One of the user's own is handed the whole experiment."""
NEED_TRAINING = ("aligned", "aligned+prior")
ONLY_RATE = ("bias", "global_mean")
"""Models that can do nothing for data without ratings."""


def own_sources(names: Iterable[str]) -> dict[str, Any]:
    """Name -> hashes of its code (see own_source.py), for the parts that are the user's own."""
    return {name: source_of(name) for name in names if ":" in name}


def load(menu: Mapping[str, str], name: str, kind: str) -> Any:
    """The thing that `name` stands for: an entry of the menu or a "package.module:Thing" of the user's own.

    Raises UnknownPart, which names the nearest known one.
    """
    address = menu.get(name, name)
    module, colon, attribute = address.partition(":")
    if not colon:
        raise UnknownPart(f'there is no {kind} "{name}"; {nearest(name, menu)}')
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownPart(
            f'the {kind} "{name}" cannot be loaded ({error}); mend the name or install its package.'
        ) from error
