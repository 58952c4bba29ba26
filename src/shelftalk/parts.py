"""The menu: every built-in part, declared once. Where a name is accepted, so is "their_package.module:thing".

A declaration gives where the part is, its settings, what it depends on and what it can do; nothing
of it is guessed. What a declaration names is imported when it is first used. A part of one's own is such a
declaration, or the bare function or class, which stands for a declaration with the defaults.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from shelftalk.baselines.bias import BiasSettings
from shelftalk.baselines.item_knn import ItemKnnSettings
from shelftalk.errors import UnknownPart, nearest
from shelftalk.recommender import ALIGNED, ALIGNED_WITH_PRIOR, TaskName
from shelftalk.runtime.own_source import source_of
from shelftalk.settings import Settings


@dataclass(frozen=True)
class Part:
    """`target`: the function or class itself, or "package.module:attribute"."""

    target: Any

    def load(self) -> Any:
        """The function or class. Raises ImportError or AttributeError where there is none."""
        return _attribute(self.target) if isinstance(self.target, str) else self.target


@dataclass(frozen=True)
class IndexScheme(Part):
    """A way of naming items: `build(split, settings, seed) -> ItemIndex`."""

    reads_text_vectors: bool = False
    """Takes the vectors of index.encoder as a fourth argument, `text_vectors` [items, dimensions]."""
    leaks: bool = False
    """Names tell of held-out events: in no list unless it is asked for by name."""


@dataclass(frozen=True)
class TaskKind(Part):
    """A kind of sample: a subclass of `tasks.task.Task`, which names its class of settings."""

    served: bool = False
    """A finished model is asked it, and the answers are evaluated."""


@dataclass(frozen=True)
class Model(Part):
    """What is evaluated: a function that returns a finished recommender.

    It is called as `fit(split, settings, seed)`, or, where it stands on "train", as `fit(run, settings,
    seed)`, so that it may ask the trained language model.
    """

    settings: type[Settings] = Settings
    """The class of its settings, which an experiment has in [baselines.NAME]."""
    section: str = ""
    """Where they are in an experiment, for what is more than
    a baseline; a model without one has [baselines.NAME]."""
    stands_on: Literal["prepare", "train"] = "prepare"
    """The last stage whose files its answers depend on."""
    tasks: tuple[TaskName, ...] = ("retrieval", "ranking")
    """The tasks that it answers; one that the data does not support is left out."""
    scores_items: bool = False
    """It has `scores(requests)` [requests, items], none below 0, as a prior needs."""


INDEXINGS = {
    "atomic": IndexScheme("shelftalk.indexing.atomic:build", reads_text_vectors=True),
    "collaborative": IndexScheme("shelftalk.indexing.collaborative:build", reads_text_vectors=True),
    "mixed": IndexScheme("shelftalk.indexing.mixed:build", reads_text_vectors=True),
    "numbers": IndexScheme("shelftalk.indexing.numbers:build"),
    "semantic": IndexScheme("shelftalk.indexing.semantic:build", reads_text_vectors=True),
    "sequential": IndexScheme("shelftalk.indexing.sequential:build", leaks=True),
    "titles": IndexScheme("shelftalk.indexing.titles:build"),
}
TASKS = {
    "retrieval": TaskKind("shelftalk.tasks.retrieval:RetrievalTask", served=True),
    "ranking": TaskKind("shelftalk.tasks.ranking:RankingTask", served=True),
    "rating": TaskKind("shelftalk.tasks.rating:RatingTask", served=True),
    "masked_items": TaskKind("shelftalk.tasks.masked_items:MaskedItems"),
    "masked_language": TaskKind("shelftalk.tasks.masked_language:MaskedLanguage"),
    "pairwise_preference": TaskKind("shelftalk.tasks.pairwise_preference:PairwisePreference"),
    "name_to_text": TaskKind("shelftalk.tasks.item_meaning:NameToText"),
    "text_to_name": TaskKind("shelftalk.tasks.item_meaning:TextToName"),
    "alike_item": TaskKind("shelftalk.tasks.item_meaning:AlikeItem"),
}
MODELS = {
    ALIGNED: Model(
        "shelftalk.pipeline.run:aligned",
        section="decoding",
        stands_on="train",
        tasks=("retrieval", "ranking", "rating"),
    ),
    ALIGNED_WITH_PRIOR: Model(
        "shelftalk.pipeline.run:aligned_with_prior",
        section="prior",
        stands_on="train",
        tasks=("retrieval", "ranking", "rating"),
    ),
    "item_knn": Model("shelftalk.baselines.item_knn:fit_item_knn", ItemKnnSettings, scores_items=True),
    "popularity": Model("shelftalk.baselines.popularity:fit_popularity", scores_items=True),
    "bias": Model("shelftalk.baselines.bias:fit_bias", BiasSettings, tasks=("rating",)),
    "global_mean": Model("shelftalk.baselines.bias:fit_global_mean", tasks=("rating",)),
}
SERVED: tuple[TaskName, ...] = ("retrieval", "ranking", "rating")
"""The served tasks, in the order of every table."""
PartKind = TypeVar("PartKind", bound=Part)


def declared(menu: Mapping[str, PartKind], name: str, kind: str) -> PartKind:
    """The declaration of a part: an entry of the menu, or one's own by "package.module:thing".

    Raises UnknownPart, which names the nearest known one.
    """
    if name in menu:
        return menu[name]
    if ":" not in name:
        raise UnknownPart(f'there is no {kind} "{name}"; {nearest(name, menu)}')
    declaration = type(next(iter(menu.values())))
    own = _loaded(name, kind, lambda: _attribute(name))
    return own if isinstance(own, declaration) else declaration(own)


def load(menu: Mapping[str, Part], name: str, kind: str) -> Any:
    """The function or class that a part is. Raises UnknownPart as `declared` does."""
    return _loaded(name, kind, declared(menu, name, kind).load)


def own_sources(names: Iterable[str]) -> dict[str, Any]:
    """Name -> what its code is made of, by hash, for the
    parts that are the user's own (see own_source.py)."""
    return {name: source_of(name) for name in names if ":" in name}


def _loaded(name: str, kind: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (ImportError, AttributeError) as error:
        raise UnknownPart(
            f'the {kind} "{name}" cannot be loaded ({error}); correct the name or install its package.'
        ) from error


def _attribute(address: str) -> Any:
    module, _, attribute = address.partition(":")
    return getattr(importlib.import_module(module), attribute)
