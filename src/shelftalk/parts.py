"""The menus: every built-in part, declared once. Where a name is accepted, so is "their_package.module:x".

A declaration (declarations.py) gives where the part is, its settings, what it depends on and what it can do;
nothing of it is guessed. A part of one's own is such a declaration, or the bare function or class, which
stands for a declaration with the defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar, cast

from shelftalk.baselines import cornac_models
from shelftalk.baselines.als import AlsSettings
from shelftalk.baselines.bias import BiasSettings
from shelftalk.baselines.cornac_adapter import fit_cornac
from shelftalk.baselines.ease import EaseSettings
from shelftalk.baselines.fusion import FusionSettings
from shelftalk.baselines.item_knn import ItemKnnSettings
from shelftalk.baselines.matrix_factorisation import MatrixFactorisationSettings
from shelftalk.baselines.neural.settings import (
    BprMfSettings,
    SampledSasRecSettings,
    SasRecSettings,
    SimpleXSettings,
)
from shelftalk.baselines.recent_popularity import RecentPopularitySettings
from shelftalk.baselines.slist import SlistSettings
from shelftalk.baselines.svd_plus_plus import SvdPlusPlusSettings
from shelftalk.baselines.tale import TaleSettings
from shelftalk.baselines.transition_graph import TransitionGraphSettings
from shelftalk.data.sources.formats import FORMATS as FORMATS
from shelftalk.declarations import IndexScheme as IndexScheme
from shelftalk.declarations import Model as Model
from shelftalk.declarations import Part as Part
from shelftalk.declarations import TaskKind as TaskKind
from shelftalk.declarations import attribute
from shelftalk.errors import UnknownPart, nearest
from shelftalk.evaluation.metrics import METRICS as METRICS
from shelftalk.models.settings import FAMILIES as FAMILIES
from shelftalk.recommender import ALIGNED, ALIGNED_WITH_PRIOR, TaskName
from shelftalk.runtime.own_source import source_of

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
    "next_items": TaskKind("shelftalk.tasks.related_items:NextItems"),
    "co_occurring_items": TaskKind("shelftalk.tasks.related_items:CoOccurringItems"),
    "similar_items": TaskKind("shelftalk.tasks.related_items:SimilarItems"),
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
    "sasrec": Model(
        "shelftalk.baselines.neural.sasrec:fit_sasrec", SasRecSettings, scores_items=True, by_default=False
    ),
    "sasrec_sampled": Model(
        "shelftalk.baselines.neural.sasrec:fit_sasrec_sampled",
        SampledSasRecSettings,
        scores_items=True,
        by_default=False,
    ),
    "bpr_mf": Model(
        "shelftalk.baselines.neural.bpr_mf:fit_bpr_mf", BprMfSettings, scores_items=True, by_default=False
    ),
    "simplex": Model(
        "shelftalk.baselines.neural.simplex:fit_simplex", SimpleXSettings, scores_items=True, by_default=False
    ),
    "bias": Model("shelftalk.baselines.bias:fit_bias", BiasSettings, tasks=("rating",)),
    "global_mean": Model("shelftalk.baselines.bias:fit_global_mean", tasks=("rating",)),
    "recent_popularity": Model(
        "shelftalk.baselines.recent_popularity:fit_recent_popularity",
        RecentPopularitySettings,
        scores_items=True,
        by_default=False,
    ),
    "transition_graph": Model(
        "shelftalk.baselines.transition_graph:fit_transition_graph",
        TransitionGraphSettings,
        scores_items=True,
        by_default=False,
    ),
    "ease": Model("shelftalk.baselines.ease:fit_ease", EaseSettings, scores_items=True, by_default=False),
    "slist": Model("shelftalk.baselines.slist:fit_slist", SlistSettings, scores_items=True, by_default=False),
    "tale": Model("shelftalk.baselines.tale:fit_tale", TaleSettings, scores_items=True, by_default=False),
    "fusion": Model(
        "shelftalk.pipeline.fusion:fit_fusion", FusionSettings, scores_items=True, by_default=False
    ),
    "als": Model("shelftalk.baselines.als:fit_als", AlsSettings, scores_items=True, by_default=False),
    "matrix_factorisation": Model(
        "shelftalk.baselines.matrix_factorisation:fit_matrix_factorisation",
        MatrixFactorisationSettings,
        tasks=("rating",),
        by_default=False,
    ),
    "svd_plus_plus": Model(
        "shelftalk.baselines.svd_plus_plus:fit_svd_plus_plus",
        SvdPlusPlusSettings,
        tasks=("rating",),
        by_default=False,
    ),
}
DEFAULT_MODELS = tuple(name for name, model in MODELS.items() if model.by_default)
"""What an experiment evaluates that names no models: those that are fitted in seconds."""
CORNAC = cornac_models.PREFIX
"""How the names of Cornac's models begin: "cornac:GRU4Rec"."""
SERVED: tuple[TaskName, ...] = ("retrieval", "ranking", "rating")
"""The served tasks, in the order of every table."""
PartKind = TypeVar("PartKind", bound=Part)


def declared(menu: Mapping[str, PartKind], name: str, kind: str) -> PartKind:
    """The declaration of a part: an entry of the menu, a model of Cornac by "cornac:CLASS", or one's own by
    "package.module:thing".

    Raises UnknownPart, which names the nearest known one.
    """
    if name in menu:
        return menu[name]
    if ":" not in name:
        raise UnknownPart(f'there is no {kind} "{name}"; {nearest(name, menu)}')
    declaration = type(next(iter(menu.values())))
    if declaration is Model and name.startswith(CORNAC):
        return cast(PartKind, _of_cornac(name))
    own = _loaded(name, kind, lambda: attribute(name))
    return own if isinstance(own, declaration) else declaration(own)


def load(menu: Mapping[str, Part], name: str, kind: str) -> Any:
    """The function or class that a part is. Raises UnknownPart as `declared` does."""
    return _loaded(name, kind, declared(menu, name, kind).load)


def own_sources(names: Iterable[str]) -> dict[str, Any]:
    """Name -> what its code is made of, by hash, for the
    parts that are the user's own (see own_source.py)."""
    return {name: source_of(name) for name in names if ":" in name}


def check_installed(names: Iterable[str]) -> None:
    """Raises UnknownPart where a model of Cornac needs a Python package that is not installed."""
    for name in names:
        if name.startswith(CORNAC):
            cornac_models.check_installed(name)


def _of_cornac(name: str) -> Model:
    """The declaration of "cornac:CLASS"."""
    model = cornac_models.cornac_model(name)
    return Model(partial(fit_cornac, name), model.settings, tasks=model.tasks)


def _loaded(name: str, kind: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (ImportError, AttributeError) as error:
        raise UnknownPart(
            f'the {kind} "{name}" cannot be loaded ({error}); correct the name or install its package.'
        ) from error
