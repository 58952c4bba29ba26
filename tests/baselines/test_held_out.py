"""What all counting and closed-form baselines promise: nothing held out is fitted, the choice reads the
validation part alone, and what was chosen can be fitted again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import BaseModel
from scipy.sparse import issparse

from shelftalk import parts
from shelftalk.baselines.fusion import FusionSettings
from shelftalk.baselines.validation import variants
from shelftalk.data.dataset import Dataset, make_dataset
from shelftalk.data.splitting import (
    NONE,
    TEST,
    TRAIN,
    VALIDATION,
    Split,
    SplitSettings,
    split_dataset,
    split_leave_one_out,
)
from shelftalk.errors import NothingLeft
from shelftalk.recommender import Repeatable, Tuned, answer
from shelftalk.settings import Settings
from shelftalk.testing.exams import exam_split
from shelftalk.testing.worlds import replace_held_out, tiny_world

ITEM_MODELS = (
    "item_knn",
    "popularity",
    "recent_popularity",
    "transition_graph",
    "ease",
    "slist",
    "tale",
    "als",
    "fusion",
)
RATERS = ("bias", "global_mean", "matrix_factorisation", "svd_plus_plus")
UNTUNED = ("popularity", "global_mean")
TUNED = [name for name in (*ITEM_MODELS, *RATERS) if name not in UNTUNED]


FUSED = {
    "item_knn": {"text_weight": (0.3,), "decay": (0.7,), "max_history": (5,)},
    "slist": {
        "l2": (3.0,),
        "alpha": (0.3,),
        "source_decay": (0.8,),
        "target_decay": (0.5,),
        "history_decay": (0.7,),
    },
}
"""One recipe for each model, so that weights alone are chosen."""


def settings_of(name: str, **changes: Any) -> Settings:
    """The defaults, with a smaller grid for what takes long."""
    smaller: dict[str, dict[str, Any]] = {
        "als": {"factors": (4,), "iterations": 4},
        "fusion": {"step": 0.25, "settings": FUSED},
        "matrix_factorisation": {"factors": (2, 4), "l2": (1.0, 9.0), "iterations": 5},
        "svd_plus_plus": {"factors": (2, 4), "l2": (1.0, 9.0), "iterations": 5},
    }
    return parts.MODELS[name].settings(**smaller.get(name, {}) | changes)


def fit(name: str, split: Split, settings: Settings | None = None) -> Any:
    return parts.MODELS[name].load()(split, settings or settings_of(name), 0)


def single(settings: Settings) -> Settings:
    """The first value of every setting that is tried."""
    if isinstance(settings, FusionSettings):  # whose tuple of models is no list of values
        return settings.model_copy(update={"weights": ((0.25, 0.75),)})
    tried = [name for name, value in settings if isinstance(value, tuple)]
    return variants(settings, *tried)[0]


def fitted_arrays(model: Any) -> Iterator[np.ndarray]:
    """Every array and table of numbers of a model, its choice aside."""
    for field in fields(model):
        value = getattr(model, field.name)
        if field.name in ("choice", "catalogue"):
            continue
        if issparse(value):
            yield value.toarray()
        elif is_dataclass(value):
            yield from fitted_arrays(value)
        elif isinstance(value, tuple) and any(map(is_dataclass, value)):
            for inner in value:
                yield from fitted_arrays(inner)
        elif isinstance(value, dict):
            yield np.array(list(value.values()))
        elif not isinstance(value, BaseModel):
            yield np.array(value)


@pytest.mark.parametrize("name", [*ITEM_MODELS, *RATERS])
def test_replacing_all_that_is_held_out_leaves_every_fitted_array_as_it_is(name: str):
    split = exam_split()
    settings = single(settings_of(name))
    first, second = (
        list(fitted_arrays(fit(name, one, settings))) for one in (split, replace_held_out(split, seed=3))
    )
    assert len(first) == len(second) > 1
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def with_other_test_part(split: Split) -> Split:
    """Items of test events and test ratings replaced, but for the items whose rating validates."""
    other = replace_held_out(split, seed=9).dataset
    replaced = pl.Series((split.event_part == TEST) & (split.rating_part != VALIDATION))
    events = split.dataset.events.with_columns(
        pl.when(replaced).then(other.events["item_id"]).otherwise("item_id").alias("item_id"),
        pl.when(pl.Series(split.rating_part == TEST))
        .then(other.events["rating"])
        .otherwise("rating")
        .alias("rating"),
    )
    return replace(split, dataset=Dataset(split.dataset.items, events))


@pytest.mark.parametrize("name", TUNED)
def test_the_choice_reads_the_validation_part_and_not_the_test_part(name: str):
    split = exam_split()
    model, untested = fit(name, split), fit(name, with_other_test_part(split))
    assert isinstance(model, Tuned) and model.selection() == untested.selection()
    for one, other in zip(fitted_arrays(model), fitted_arrays(untested), strict=True):
        np.testing.assert_array_equal(one, other)
    unvalidated = fit(name, replace_held_out(split, seed=9))  # the validation part too
    assert model.choice.value != unvalidated.choice.value


def answers(model: Any, split: Split) -> list[Any]:
    if hasattr(model, "rate"):
        return answer(model, "rating", split.rating_requests("test")[0], 10)
    requests, _ = split.ranking_requests("test")
    return [answer(model, "retrieval", requests, 10), answer(model, "ranking", requests, 10)]


@pytest.mark.parametrize("name", [*ITEM_MODELS, *RATERS])
def test_what_was_chosen_is_fitted_again_without_choosing(name: str):
    split = exam_split()
    model = fit(name, split)
    assert isinstance(model, Repeatable)
    again = fit(name, split, model.chosen_settings())
    assert answers(again, split) == answers(model, split)
    if name in TUNED:
        assert model.choice.tried > 1 and again.choice.tried == 1


def refitted(split: Split) -> Split:
    """Validation events and ratings are training; nothing is held out to choose by."""
    event_part = np.where(split.event_part == VALIDATION, TRAIN, split.event_part).astype(np.uint8)
    free = ~np.isnan(split.dataset.event_rating) & (split.rating_part != TEST) & (event_part == TRAIN)
    kept = np.where(split.rating_part == TEST, TEST, NONE)
    rating_part = np.where(free, TRAIN, kept).astype(np.uint8)
    return replace(
        split,
        event_part=event_part,
        rating_part=rating_part,
        candidates={"test": split.candidates["test"]},
    )


@pytest.mark.parametrize("name", [*ITEM_MODELS, *RATERS])
def test_without_a_validation_part_what_was_chosen_is_fitted_and_a_choice_refused(name: str):
    split = exam_split()
    model = fit(name, split)
    again = fit(name, refitted(split), model.chosen_settings())
    assert answers(again, split) != answers(model, split)
    if name in TUNED:
        assert "as given, not measured on validation" in again.selection()[-1]
        with pytest.raises(NothingLeft, match=rf"give each setting of \[baselines.{name}\] one value"):
            fit(name, refitted(split))


@pytest.mark.parametrize("name", ITEM_MODELS)
@pytest.mark.parametrize("world", ["without order", "without times"])
def test_data_without_times_or_any_order_is_answered(name: str, world: str):
    data = tiny_world()
    if world == "without times":
        events = data.events.with_columns(timestamp=None, nanosecond=None)
        split = split_leave_one_out(make_dataset(data.items, events), SplitSettings(), seed=0)
    else:
        split = split_dataset(data.without_order(0), SplitSettings(), seed=0)
    model = fit(name, split)
    again = fit(name, split, model.chosen_settings())
    assert answers(again, split) == answers(model, split)
    rankings = model.recommend(split.retrieval_requests("test")[0], 10)
    assert all(len(set(ranking.items)) == 10 for ranking in rankings)


@pytest.mark.parametrize("name", ITEM_MODELS)
def test_without_an_order_the_order_of_a_history_plays_no_part(name: str):
    split = split_dataset(tiny_world().without_order(0), SplitSettings(), seed=0)
    model = fit(name, split)
    requests = split.retrieval_requests("test")[0][:20]
    turned = [replace(r, history=r.history[::-1], ratings=r.ratings[::-1]) for r in requests]
    assert model.item_scores(requests) == pytest.approx(model.item_scores(turned), abs=1e-5)
