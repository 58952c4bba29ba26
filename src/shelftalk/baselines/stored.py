"""Fitted baselines as files: one safetensors file of plain numbers each, with what describes them as JSON in
its header. Nothing in it names code, and what is read is checked as what it is: bytes from outside.

    kind              models                                arrays beside `tie_order` [I]
    text_and_links    item_knn, transition_graph            text [I, F] and links [I, I], each as CSR
    counts            popularity                            counts [I]
    linear            ease, slist, tale                     items [T], weights [T, T]
    sasrec            sasrec, sasrec_sampled, a student     the weights of the network
    bias              bias                                  item_bias [I]
    mean              global_mean                           none
    factors           matrix_factorisation                  item_bias [I], items [I, K]
    implicit_factors  svd_plus_plus                         the same, and taken [I, K]
    fusion            fusion                                those of its models, "0." and so on before them

No id of a user is stored, nor a user's numbers: of a user whom the run knew, a bias or a vector is computed
from the ratings in the request's history, as for everybody else.

Legend: I items, F text features, T items with a training event, K factors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field
from safetensors import safe_open
from scipy.sparse import csr_matrix

from shelftalk.baselines.bias import Bias, BiasSettings, GlobalMean
from shelftalk.baselines.fusion import Fusion, FusionSettings
from shelftalk.baselines.linear import LinearItems, LinearSettings
from shelftalk.baselines.matrix_factorisation import (
    CHOSEN,
    Factors,
    MatrixFactorisation,
    MatrixFactorisationSettings,
)
from shelftalk.baselines.popularity import Popularity
from shelftalk.baselines.scored_catalogue import ScoredCatalogue
from shelftalk.baselines.svd_plus_plus import ImplicitFactors, SvdPlusPlus, SvdPlusPlusSettings
from shelftalk.baselines.text_and_links import Recipe, TextAndLinks, TextAndLinksSettings
from shelftalk.baselines.validation import Choice
from shelftalk.errors import SettingsError
from shelftalk.runtime.tensor_files import save_tensors

_HEADER = "shelftalk"
"""The key of the header under which the facts stand."""
Arrays = dict[str, np.ndarray]
Finite = Field(allow_inf_nan=False)


class _Facts(BaseModel):
    """What every stored model has."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["shelftalk model 1"] = "shelftalk model 1"
    """The version of the format."""
    kind: str
    """One of `_KINDS`."""
    name: str = Field(min_length=1, max_length=100)
    """The name of the model."""
    notes: tuple[str, ...] = ()
    """Sentences on what was not counted."""
    metric: float | None = Finite
    """The validation metric that its settings reached; None where nothing was held out."""
    tried: int = Field(1, ge=1)
    """How many settings were tried."""


class _TextAndLinksFacts(_Facts):
    """Of item_knn and transition_graph."""

    text_weight: float = Field(ge=0, le=1)
    """Share of the text similarity."""
    decay: float = Field(gt=0, le=1)
    """Factor per step of age."""
    max_history: int = Field(ge=1)
    """Most recent items that count."""
    ordered: bool
    """Whether histories have an order."""
    features: int = Field(ge=0, lt=2**31)
    """Text features."""


class _LinearFacts(_Facts):
    """Of ease, slist and tale."""

    history_decay: float = Field(gt=0, le=1)
    """Factor per step of age."""


class _SasRecFacts(_Facts):
    """Of sasrec: the shape of the network."""

    width: int = Field(ge=1, le=2**16)
    """Dimensions of an item vector."""
    blocks: int = Field(ge=1, le=256)
    """Layers."""
    heads: int = Field(ge=1, le=2**16)
    """Attention heads of a block."""
    max_history: int = Field(ge=1, le=2**24)
    """Most recent items that are read."""


class _FusionFacts(_Facts):
    """Of a fusion."""

    weights: tuple[float, ...] = Field(min_length=2, max_length=4)
    """Of its models."""
    models: tuple[dict[str, Any], ...] = Field(min_length=2, max_length=4)
    """The facts of each."""


class _BiasFacts(_Facts):
    """Of the biases."""

    mean: float = Finite
    """Of all visible ratings."""
    damping: float = Field(gt=0, allow_inf_nan=False)
    """Of a user's own ratings."""
    scale: tuple[float, float]
    """The lowest and the highest rating."""


class _MeanFacts(_Facts):
    """Of the global mean."""

    mean: float = Finite
    """Of all visible ratings."""


class _FactorsFacts(_Facts):
    """Of factors of ratings."""

    mean: float = Finite
    """Of all visible ratings."""
    scale: tuple[float, float]
    """The lowest and the highest rating."""
    l2: float = Field(gt=0, allow_inf_nan=False)
    """Penalty on the factors of a user who is solved from a history."""
    bias_l2: float = Field(gt=0, allow_inf_nan=False)
    """Penalty on the bias of such a user."""


@dataclass(frozen=True)
class _Kind:
    """How models of one kind become facts and arrays, and are made of them again."""

    facts: type[_Facts]
    of: Callable[[Any], tuple[dict[str, Any], Arrays]]
    opened: Callable[[Any, Arrays, ScoredCatalogue], Any]


def save_model(model: Any, path: Path) -> None:
    """Write a fitted baseline. Raises SettingsError for one of no kind that can be stored."""
    facts, arrays = _described(model)
    save_tensors(arrays, path, {_HEADER: facts.model_dump_json()})


def _described(model: Any) -> tuple[_Facts, Arrays]:
    """Its facts, and its arrays with `tie_order`. Raises as `save_model` does."""
    kind = _kind_of(model)
    facts, arrays = _KINDS[kind].of(model)
    if hasattr(model, "catalogue"):  # it scores items
        arrays["tie_order"] = model.catalogue.tie_order.astype(np.int64)
    choice = getattr(model, "choice", None)
    metric = None if choice is None or math.isnan(choice.value) else choice.value
    common = {"kind": kind, "name": model.name, "notes": tuple(getattr(model, "notes", ())), "metric": metric}
    return _KINDS[kind].facts(**common, tried=choice.tried if choice else 1, **facts), arrays


def can_be_stored(model: Any) -> bool:
    """Whether `save_model` writes it."""
    return bool(_kinds_of(model))


def open_model(path: Path, items: pl.DataFrame) -> Any:
    """The baseline of a file, over the catalogue frame `items`. Raises ValueError, or what the library
    raises, where the file is damaged, of another catalogue, or not what its header says."""
    with safe_open(path, framework="numpy") as file:
        header = (file.metadata() or {}).get(_HEADER, "")
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    return _opened(header, arrays, items, tuple(_KINDS))


def _opened(header: str, arrays: Arrays, items: pl.DataFrame, kinds: Collection[str]) -> Any:
    """The model, of one of the kinds, that the facts and the arrays describe. Raises as `open_model` does."""
    kind = json.loads(header).get("kind")
    if kind not in kinds:
        raise ValueError(f"it holds a model of the unknown kind {kind!r}")
    facts = _KINDS[kind].facts.model_validate_json(header)
    size = len(items)
    order = arrays.pop("tie_order", np.arange(size))
    _must(_is_permutation(order, size), "tie_order is no order of its catalogue")
    return _KINDS[kind].opened(facts, arrays, ScoredCatalogue(items, order))


def _kind_of(model: Any) -> str:
    kinds = _kinds_of(model)
    if not kinds:
        raise SettingsError(
            f'the model "{getattr(model, "name", type(model).__name__)}" cannot be stored in a folder; '
            "choose one of item_knn, transition_graph, popularity, ease, slist, tale and sasrec, or a fusion "
            "of them, as prior.model, and svd_plus_plus, matrix_factorisation, bias or global_mean as "
            "prior.rating_model."
        )
    return kinds[0]


def _kinds_of(model: Any) -> list[str]:
    classes = {
        "text_and_links": TextAndLinks,
        "counts": Popularity,
        "linear": LinearItems,
        "fusion": Fusion,
        "bias": Bias,
        "mean": GlobalMean,
        "implicit_factors": SvdPlusPlus,
        "factors": MatrixFactorisation,  # which svd_plus_plus is too: the first kind that fits is taken
    }
    kinds = [kind for kind, its_class in classes.items() if isinstance(model, its_class)]
    if "fusion" in kinds and not all(map(_kinds_of, model.models)):
        return []
    return kinds or (["sasrec"] if type(getattr(model, "network", None)).__name__ == "SasRec" else [])


# --- one pair of functions for each kind ----------------------------------------------------------------


def _of_text_and_links(model: TextAndLinks) -> tuple[dict[str, Any], Arrays]:
    facts = {**model.recipe._asdict(), "ordered": model.ordered, "features": int(model.text.shape[1])}
    return facts, {**_cells("text", model.text), **_cells("links", model.links)}


def _text_and_links(facts: _TextAndLinksFacts, arrays: Arrays, catalogue: ScoredCatalogue) -> TextAndLinks:
    size = len(catalogue.item_ids)
    text = _matrix("text", arrays, (size, facts.features))
    links = _matrix("links", arrays, (size, size))
    _no_others(arrays)
    used = int(text.indices.max(initial=-1)) + 1  # slices of a matrix cost memory for each of its columns
    _must(facts.features == used, "its text features are not those that its items have")
    recipe = Recipe(facts.text_weight, facts.decay, facts.max_history)
    settings = TextAndLinksSettings.model_validate(
        {name: (value,) for name, value in recipe._asdict().items()}
    )
    choice = _choice(facts, settings, Recipe._fields)
    return TextAndLinks(catalogue, text, links, recipe, choice, facts.ordered, facts.notes, facts.name)


def _of_counts(model: Popularity) -> tuple[dict[str, Any], Arrays]:
    return {}, {"counts": model.counts}


def _counts(facts: _Facts, arrays: Arrays, catalogue: ScoredCatalogue) -> Popularity:
    counts = _array("counts", arrays, np.float32, (len(catalogue.item_ids),))
    _must(bool((counts >= 0).all()), "counts holds a number below 0")
    _no_others(arrays)
    return Popularity(catalogue, counts, facts.name)


def _of_linear(model: LinearItems) -> tuple[dict[str, Any], Arrays]:
    facts = {"history_decay": model.history_decay}
    return facts, {"items": model.items.astype(np.int64), "weights": model.weights}


def _linear(facts: _LinearFacts, arrays: Arrays, catalogue: ScoredCatalogue) -> LinearItems:
    items = arrays.pop("items", np.zeros(0))
    inside = items.ndim == 1 and items.dtype == np.int64 and (items >= 0).all()
    _must(bool(inside and (items < len(catalogue.item_ids)).all()), "items names an item that is not there")
    _must(len(np.unique(items)) == len(items), "items names an item twice")
    weights = _array("weights", arrays, np.float32, (len(items), len(items)))
    _no_others(arrays)
    settings = LinearSettings(history_decay=(facts.history_decay,))
    choice = _choice(facts, settings, ("history_decay",))
    return LinearItems(catalogue, items, weights, facts.history_decay, choice, facts.name, facts.notes)


def _of_sasrec(model: Any) -> tuple[dict[str, Any], Arrays]:
    settings = model.network.settings
    facts = {
        "width": settings.width[0],
        "blocks": settings.blocks,
        "heads": settings.heads,
        "max_history": settings.max_history,
    }
    return facts, {name: tensor.numpy() for name, tensor in model.network.state_dict().items()}


def _sasrec(facts: _SasRecFacts, arrays: Arrays, catalogue: ScoredCatalogue) -> Any:
    from shelftalk.baselines.neural.sasrec import opened_sasrec  # torch is loaded only for it

    _must(facts.width % facts.heads == 0, "the heads do not divide the width")
    sizes = {
        "items.weight": (len(catalogue.item_ids), facts.width),
        "ages.weight": (facts.max_history, facts.width),
    }
    for name, shape in sizes.items():  # before a network of the sizes that the header claims is made
        _must(arrays.get(name, np.zeros(0)).shape == shape, f"{name} has another shape than its header says")
    _must(len(arrays) >= 12 * facts.blocks, "it has fewer arrays than its blocks need")
    checked = {name: _array(name, dict(arrays), np.float32, arrays[name].shape) for name in arrays}
    return opened_sasrec(facts.name, catalogue, checked, facts.model_dump())


def _of_fusion(model: Fusion) -> tuple[dict[str, Any], Arrays]:
    described = [_described(inner) for inner in model.models]
    arrays = {
        f"{number}.{name}": array for number, (_, own) in enumerate(described) for name, array in own.items()
    }
    models = tuple(facts.model_dump(mode="json") for facts, _ in described)
    return {"weights": tuple(map(float, model.weights)), "models": models}, arrays


def _fusion(facts: _FusionFacts, arrays: Arrays, catalogue: ScoredCatalogue) -> Fusion:
    _must(len(facts.weights) == len(facts.models), "it has not one weight for each of its models")
    inner_kinds = [kind for kind in _KINDS if kind not in ("fusion", *_RATERS)]
    models = []
    for number, inner in enumerate(facts.models):
        named = [name for name in arrays if name.startswith(f"{number}.")]
        own = {name.partition(".")[2]: arrays.pop(name) for name in named}
        models.append(_opened(json.dumps(inner), own, catalogue.items, inner_kinds))
    _no_others(arrays)
    names = tuple(model.name for model in models)
    settings = FusionSettings(models=names, weights=(facts.weights,))
    return Fusion(catalogue, tuple(models), facts.weights, _choice(facts, settings, ("weights",)), facts.name)


def _of_bias(model: Bias) -> tuple[dict[str, Any], Arrays]:
    item_bias = np.array(list(model.item_bias.values()), np.float64)  # in catalogue order
    facts = {"mean": float(model.mean), "damping": float(model.user_damping)}
    return {**facts, "scale": tuple(map(float, model.scale))}, {"item_bias": item_bias}


def _bias(facts: _BiasFacts, arrays: Arrays, catalogue: ScoredCatalogue) -> Bias:
    item_bias = _array("item_bias", arrays, np.float64, (len(catalogue.item_ids),))
    _no_others(arrays)
    choice = _choice(facts, BiasSettings(user_damping=(facts.damping,)), ("user_damping",), "rmse")
    of_item = dict(zip(catalogue.item_ids, item_bias.tolist(), strict=True))
    return Bias(facts.mean, of_item, {}, facts.damping, _scale(facts), choice, facts.name)


def _of_mean(model: GlobalMean) -> tuple[dict[str, Any], Arrays]:
    return {"mean": float(model.mean)}, {}


def _mean(facts: _MeanFacts, arrays: Arrays, catalogue: ScoredCatalogue) -> GlobalMean:
    _no_others(arrays)
    return GlobalMean(facts.mean, frozenset(catalogue.item_ids), facts.name)


def _of_factors(model: MatrixFactorisation) -> tuple[dict[str, Any], Arrays]:
    settings, factors = model.choice.settings, model.factors
    facts = {"mean": float(model.mean), "scale": tuple(map(float, model.scale))}
    penalties = {"l2": float(settings.l2[0]), "bias_l2": float(settings.bias_l2[0])}
    return {**facts, **penalties}, {"item_bias": factors.item_bias, "items": factors.items}


def _factors(facts: _FactorsFacts, arrays: Arrays, catalogue: ScoredCatalogue) -> MatrixFactorisation:
    item_bias, items = _item_side(arrays, catalogue)
    _no_others(arrays)
    choice = _factors_choice(facts, MatrixFactorisationSettings, items)
    factors = Factors(np.zeros(0), item_bias, np.zeros((0, items.shape[1])), items)
    rows = _rows(catalogue)
    return MatrixFactorisation(factors, facts.mean, _scale(facts), {}, rows, choice, facts.name)


def _of_implicit_factors(model: SvdPlusPlus) -> tuple[dict[str, Any], Arrays]:
    facts, arrays = _of_factors(model)
    assert isinstance(model.factors, ImplicitFactors)
    return facts, {**arrays, "taken": model.factors.taken}


def _implicit_factors(facts: _FactorsFacts, arrays: Arrays, catalogue: ScoredCatalogue) -> SvdPlusPlus:
    item_bias, items = _item_side(arrays, catalogue)
    taken = _array("taken", arrays, np.float64, items.shape)
    _no_others(arrays)
    choice = _factors_choice(facts, SvdPlusPlusSettings, items)
    factors = ImplicitFactors(np.zeros(0), item_bias, np.zeros((0, items.shape[1])), items, taken)
    return SvdPlusPlus(factors, facts.mean, _scale(facts), {}, _rows(catalogue), choice, facts.name)


def _item_side(arrays: Arrays, catalogue: ScoredCatalogue) -> tuple[np.ndarray, np.ndarray]:
    """[I] biases and [I, K] factors."""
    size, given = len(catalogue.item_ids), arrays.get("items", np.zeros(0))
    _must(given.ndim == 2 and given.shape[1] > 0, "items holds no factors")
    items = _array("items", arrays, np.float64, (size, given.shape[1]))
    return _array("item_bias", arrays, np.float64, (size,)), items


def _factors_choice(
    facts: _FactorsFacts, kind: type[MatrixFactorisationSettings], items: np.ndarray
) -> Choice[Any]:
    settings = kind(factors=(items.shape[1],), l2=(facts.l2,), bias_l2=(facts.bias_l2,))
    return _choice(facts, settings, CHOSEN, "rmse")


def _rows(catalogue: ScoredCatalogue) -> dict[str, int]:
    return {item: row for row, item in enumerate(catalogue.item_ids)}


def _scale(facts: _BiasFacts | _FactorsFacts) -> tuple[float, float]:
    """The lowest and the highest rating."""
    _must(-math.inf < facts.scale[0] <= facts.scale[1] < math.inf, "its scale is none")
    return facts.scale


_RATERS = ("bias", "mean", "factors", "implicit_factors")
"""Kinds that rate and score no items."""
_KINDS: Mapping[str, _Kind] = {
    "text_and_links": _Kind(_TextAndLinksFacts, _of_text_and_links, _text_and_links),
    "counts": _Kind(_Facts, _of_counts, _counts),
    "linear": _Kind(_LinearFacts, _of_linear, _linear),
    "sasrec": _Kind(_SasRecFacts, _of_sasrec, _sasrec),
    "fusion": _Kind(_FusionFacts, _of_fusion, _fusion),
    "bias": _Kind(_BiasFacts, _of_bias, _bias),
    "mean": _Kind(_MeanFacts, _of_mean, _mean),
    "factors": _Kind(_FactorsFacts, _of_factors, _factors),
    "implicit_factors": _Kind(_FactorsFacts, _of_implicit_factors, _implicit_factors),
}


# --- arrays from outside --------------------------------------------------------------------------------


def _cells(name: str, matrix: csr_matrix) -> Arrays:
    """A sparse matrix as three arrays, in its own order: sums depend on it to the last bit."""
    return {
        f"{name}.data": matrix.data.astype(np.float32, copy=False),
        f"{name}.indices": matrix.indices.astype(np.int32),
        f"{name}.indptr": matrix.indptr.astype(np.int64),
    }


def _matrix(name: str, arrays: Arrays, shape: tuple[int, int]) -> csr_matrix:
    pointer = _array(f"{name}.indptr", arrays, np.int64, (shape[0] + 1,))
    cells = int(pointer[-1])
    _must(pointer[0] == 0 and bool((np.diff(pointer) >= 0).all()), f"{name}.indptr does not divide its cells")
    indices = _array(f"{name}.indices", arrays, np.int32, (cells,))
    _must(bool((indices >= 0).all() and (indices < shape[1]).all()), f"{name}.indices is outside the matrix")
    data = _array(f"{name}.data", arrays, np.float32, (cells,))
    kind = np.int32 if cells < 2**31 else np.int64
    return csr_matrix((data, indices.astype(kind, copy=False), pointer.astype(kind)), shape)


def _array(name: str, arrays: Arrays, kind: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
    """Taken out of `arrays`, and of this type and shape, of finite numbers."""
    _must(name in arrays, f"it lacks {name}")
    array = arrays.pop(name)
    _must(array.dtype == kind and array.shape == shape, f"{name} is of another type or shape")
    _must(bool(np.isfinite(array).all()), f"{name} holds what is no number")
    return array


def _no_others(arrays: Arrays) -> None:
    _must(not arrays, f"it holds {min(arrays, default='')}, which its kind does not have")


def _is_permutation(order: np.ndarray, size: int) -> bool:
    if order.dtype != np.int64 or order.shape != (size,) or ((order < 0) | (order >= size)).any():
        return False
    return bool((np.bincount(order, minlength=size) == 1).all())


def _choice(
    facts: _Facts, settings: Any, names: tuple[str, ...], metric: Literal["ndcg@10", "rmse"] = "ndcg@10"
) -> Choice[Any]:
    return Choice(settings, names, metric, math.nan if facts.metric is None else facts.metric, facts.tried)


def _must(so: bool | np.bool_, else_: str) -> None:
    if not so:
        raise ValueError(else_)
