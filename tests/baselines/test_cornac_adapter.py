"""Models of Cornac by name: what they are given, whom they answer, and what is said where they cannot. A
stand-in takes Cornac's place, so that nothing has to be installed; test_cornac.py has the real ones."""

from __future__ import annotations

import random
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

from shelftalk import parts
from shelftalk.baselines import cornac_models
from shelftalk.baselines.cornac_adapter import CornacRecommender
from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import TRAIN, VALIDATION, Split, SplitSettings, split_leave_one_out
from shelftalk.errors import BadRequest, NothingLeft, SettingsError, UnknownItem, UnknownPart, UnknownSetting
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.recommender import Ranker, Rater, Recommender, tasks_of
from shelftalk.records import Request
from shelftalk.testing.exams import exam_split
from shelftalk.testing.worlds import replace_held_out, untitled_world
from tests.baselines.stand_in_cornac import cornac, stand_in_modules

__all__ = ["cornac", "stand_in_modules"]


def hand_made_split(ratings: bool = True) -> Split:
    """Training: u1 takes b, a, c; u2 takes b; u3 takes c and d. The last two of each user are x and y; nobody
    takes w and z."""
    rows = [
        ("u1", "b", 3.0),
        ("u1", "a", 1.0),
        ("u1", "c", 4.0),
        ("u2", "b", 5.0),
        ("u3", "c", 2.0),
        ("u3", "d", 2.0),
    ]
    rows += [(user, item, 5.0) for user in ("u1", "u2", "u3") for item in "xy"]
    schema = {"user_id": pl.String, "item_id": pl.String, "rating": pl.Float64}
    events = pl.DataFrame(rows, schema=schema, orient="row").with_columns(position=pl.int_range(pl.len()))
    events = events if ratings else events.drop("rating")
    world = make_dataset(pl.DataFrame({"item_id": list("abcdwxyz"), "title": list("abcdwxyz")}), events)
    split = split_leave_one_out(world, SplitSettings(ranking_negatives=1), seed=0)
    in_training = np.where(split.event_part == TRAIN, TRAIN, VALIDATION).astype(np.uint8)
    return Split(split.dataset, split.event_part, in_training, split.candidates)


def fitted(name: str, split: Split, **settings: Any) -> Any:
    declared = parts.declared(parts.MODELS, name, "model")
    return declared.load()(split, declared.settings(**settings), 0)


def scores_by_item(model: CornacRecommender, request: Request) -> dict[str, float]:
    (scores,) = model.item_scores([request])
    return dict(zip(model.catalogue.item_ids, scores.tolist(), strict=True))


def test_without_cornac_the_extra_to_install_is_named_and_with_it_the_same_name_works(
    monkeypatch: pytest.MonkeyPatch, stand_in_modules: Any
) -> None:
    cornac_models.cornac_model.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cornac", None)
        patch.delitem(sys.modules, "cornac.models", raising=False)
        with pytest.raises(UnknownPart, match=r"`pip install shelftalk\[cornac\]`"):
            parts.declared(parts.MODELS, "cornac:Counts", "model")
    with monkeypatch.context() as patch:
        for name, module in stand_in_modules.items():
            patch.setitem(sys.modules, name, module)
        assert parts.declared(parts.MODELS, "cornac:Counts", "model").tasks == ("retrieval", "ranking")
    cornac_models.cornac_model.cache_clear()


def test_a_package_that_cornac_lacks_is_named_before_anything_is_fitted_or_trained(
    cornac: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cornac_models, "find_spec", lambda package: None)
    for ask in (
        lambda: parts.check_installed(["popularity", "cornac:LightGCN"]),
        lambda: fitted("cornac:LightGCN", exam_split()),
    ):
        with pytest.raises(UnknownPart, match='needs the Python package "dgl".*`pip install "dgl<2"`'):
            ask()
    monkeypatch.setattr(cornac_models, "find_spec", lambda package: package)
    parts.check_installed(["popularity", "cornac:LightGCN"])
    assert fitted("cornac:LightGCN", exam_split()).name == "cornac:LightGCN"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cornac:Count", 'did you mean "cornac:Counts"'),
        ("cornac:UPCF", "predicts whole baskets.*choose a model of next items"),
        ("cornac:FM", "takes all memory.*choose another, such as"),
        ("cornac:AnnoyANN", r"made of another model \(model\)"),
        ("cornac:Recommender", "known are|did you mean"),
    ],
)
def test_what_is_no_model_by_itself_is_refused_by_name(cornac: Any, name: str, words: str) -> None:
    with pytest.raises(UnknownPart, match=words):
        parts.declared(parts.MODELS, name, "model")


def test_settings_are_the_parameters_of_the_constructor_and_nothing_that_is_given_anyway(cornac: Any) -> None:
    settings = parts.declared(parts.MODELS, "cornac:Counts", "model").settings
    assert settings().model_dump() == {"feedback": "events", "scale": 1.0, "noise": 0.0, "lr": 0.1}
    with_parent = parts.declared(parts.MODELS, "cornac:LETTER", "model").settings
    assert set(with_parent.model_fields) == {"feedback", "weight", "model_selection"}


def test_an_unknown_setting_names_the_nearest_and_a_value_that_cornac_refuses_its_reason(cornac: Any) -> None:
    with pytest.raises(UnknownSetting, match='baselines.cornac:Counts.scal".*did you mean "scale"'):
        load_experiment(None, {"baselines": {"cornac:Counts": {"scal": 2}}})
    with pytest.raises(SettingsError, match="scale=-1 is below 0"):
        load_experiment(None, {"baselines": {"cornac:Counts": {"scale": -1}}})
    experiment = load_experiment(
        None, {"models": ["cornac:Counts"], "baselines": {"cornac:Counts": {"scale": 3}}}
    )
    assert experiment.settings_of("cornac:Counts").parameters()["scale"] == 3
    assert not experiment.needs_training
    written = Experiment.model_validate(tomllib.loads(experiment.toml()))
    assert written.settings_of("cornac:Counts") == experiment.settings_of("cornac:Counts")


def test_a_model_of_cornac_cannot_be_the_prior_whose_scores_must_not_be_negative(cornac: Any) -> None:
    with pytest.raises(UnknownPart, match='prior.model names "cornac:Counts"'):
        load_experiment(None, {"prior": {"model": "cornac:Counts"}})
    load_experiment(None, {"prior": {"model": "item_knn", "rating_model": "cornac:MF"}})


def test_a_model_per_user_learns_each_training_pair_once_and_nothing_that_is_held_out(cornac: Any) -> None:
    model = fitted("cornac:Counts", hand_made_split())
    data = model.model.train_set
    users, items = (list(ids) for ids in (data.uid_map, data.iid_map))
    pairs = sorted((users[u], items[i], v) for u, i, v in zip(*data.uir_tuple, strict=True))
    assert pairs == [
        ("u1", "a", 1),
        ("u1", "b", 1),
        ("u1", "c", 1),
        ("u2", "b", 1),
        ("u3", "c", 1),
        ("u3", "d", 1),
    ]
    assert set(items[: data.num_items]) == set("abcd") and len(items) == 8
    assert list(data.iid_map.values()) == list(range(8))


def test_ratings_are_learnt_where_they_are_visible_and_users_without_any_are_counted(cornac: Any) -> None:
    split = hand_made_split()
    hidden = np.where(split.dataset.event_rating == 5, VALIDATION, split.rating_part).astype(np.uint8)
    split = Split(split.dataset, split.event_part, hidden, split.candidates)
    model = fitted("cornac:MF", split)
    data = model.model.train_set
    users, items = (list(ids) for ids in (data.uid_map, data.iid_map))
    triples = sorted((users[u], items[i], v) for u, i, v in zip(*data.uir_tuple, strict=True))
    assert triples == [("u1", "a", 1), ("u1", "b", 3), ("u1", "c", 4), ("u3", "c", 2), ("u3", "d", 2)]
    assert data.num_users == 2 and any(
        "1 of 3 users have nothing" in sentence for sentence in model.selection()
    )


def test_an_order_of_events_arrives_as_sessions_oldest_first(cornac: Any) -> None:
    data = fitted("cornac:After", hand_made_split()).model.train_set
    items, sessions = list(data.iid_map), list(data.sid_map)
    taken: dict[str, str] = {}
    for session, item in zip(data.session_indices, data.uir_tuple[1], strict=True):
        taken[sessions[session]] = taken.get(sessions[session], "") + items[item]
    assert taken == {"u1": "bac", "u2": "b", "u3": "cd"} and data.num_sessions == 3


def test_scores_come_back_to_the_right_items_and_unknown_items_get_the_lowest(cornac: Any) -> None:
    per_user = scores_by_item(fitted("cornac:Counts", hand_made_split(), scale=2.0), Request("u1", ("b",)))
    assert per_user == {"a": 12, "b": 14, "c": 14, "d": 2, "w": 2, "x": 2, "y": 2, "z": 2}
    next_items = scores_by_item(fitted("cornac:After", hand_made_split()), Request("nobody", ("z", "a")))
    assert next_items == {item: float(item == "c") for item in "abcdwxyz"}


def test_a_user_who_is_not_in_the_data_is_refused_by_a_model_per_user_and_answered_by_one_of_next_items(
    cornac: Any,
) -> None:
    stranger = Request("nobody", ("a",), candidates=("b", "c"), item="b")
    model = fitted("cornac:MF", hand_made_split())
    for ask in (
        lambda: model.recommend([stranger], 3),
        lambda: model.rank([stranger]),
        lambda: model.rate([stranger]),
    ):
        with pytest.raises(
            BadRequest, match='"nobody" is none of them.*such as "cornac:GRU4Rec" or "item_knn"'
        ):
            ask()
    (ranking,) = fitted("cornac:After", hand_made_split()).recommend([stranger], 1)
    assert ranking.items == ("c",)


def test_what_a_model_answers_from_is_said(cornac: Any) -> None:
    (per_user,) = fitted("cornac:Counts", hand_made_split()).selection()
    assert "not from the history" in per_user and "has not seen the validation item" in per_user
    (next_items,) = fitted("cornac:After", hand_made_split()).selection()
    assert "from the history" in next_items


def test_a_model_per_user_answers_the_same_whatever_the_history_but_for_what_is_excluded(cornac: Any) -> None:
    model = fitted("cornac:Counts", hand_made_split())
    short, long = (scores_by_item(model, Request("u1", history)) for history in ((), ("c", "x")))
    assert short == long
    (ranking,) = model.recommend([Request("u1", ("a", "x"))], 8)
    assert set(ranking.items) == set("bcdwyz")


def test_it_ranks_and_recommends_and_rates_only_where_ratings_are_learnt(cornac: Any) -> None:
    events, ratings = fitted("cornac:Counts", exam_split()), fitted("cornac:MF", exam_split())
    assert isinstance(events, Recommender) and isinstance(events, Ranker) and not isinstance(events, Rater)
    assert tasks_of(ratings) == ("retrieval", "ranking", "rating")
    assert tasks_of(fitted("cornac:MF", exam_split(), feedback="events")) == ("retrieval", "ranking")
    assert parts.declared(parts.MODELS, "cornac:MF", "model").tasks == ("retrieval", "ranking", "rating")
    requests, _ = exam_split().rating_requests("test")
    low, *_, high = exam_split().dataset.rating_values
    assert all(low <= estimate <= high for estimate in ratings.rate(requests))
    with pytest.raises(UnknownItem, match='"nowhere"'):
        ratings.rate([Request(requests[0].user, (), item="nowhere")])


def test_data_without_ratings_has_a_remedy_that_works(cornac: Any) -> None:
    split = split_leave_one_out(untitled_world(), SplitSettings(), seed=0)
    with pytest.raises(NothingLeft, match='set feedback = "events" in .baselines."cornac:MF".'):
        fitted("cornac:MF", split)
    assert fitted("cornac:MF", split, feedback="events").recommend(split.retrieval_requests("test")[0][:1], 2)


def test_a_model_of_next_items_learns_no_ratings(cornac: Any) -> None:
    with pytest.raises(SettingsError, match='set feedback = "events"'):
        fitted("cornac:After", exam_split(), feedback="ratings")


def test_scores_that_are_no_numbers_and_failures_of_cornac_are_said(cornac: Any) -> None:
    with pytest.raises(SettingsError, match="no numbers; set a lower learning rate"):
        fitted("cornac:Diverged", exam_split()).recommend(exam_split().retrieval_requests("test")[0][:1], 2)
    with pytest.raises(SettingsError, match="cannot be fitted .AttributeError.*item_image.*images, reviews"):
        fitted("cornac:AMR", exam_split())


def test_more_users_side_by_side_than_there_are_is_refused_with_a_number_that_works(cornac: Any) -> None:
    with pytest.raises(SettingsError, match="set batch_size = 2 or less"):
        fitted("cornac:GRU4Rec", hand_made_split())
    assert fitted("cornac:GRU4Rec", hand_made_split(), batch_size=2).sequential


def test_validation_is_given_to_a_model_that_chooses_its_epoch_by_it_and_to_no_other(cornac: Any) -> None:
    split = hand_made_split()
    assert fitted("cornac:After", split).model.val_set is None
    chosen = fitted("cornac:After", split, model_selection="best").model.val_set
    items, sessions = list(chosen.iid_map), list(chosen.sid_map)
    last = {sessions[s]: items[i] for s, i in zip(chosen.session_indices, chosen.uir_tuple[1], strict=True)}
    assert last == {"u1": "x", "u2": "x", "u3": "x"}


def test_item_features_are_text_vectors_in_the_order_of_cornacs_numbers(cornac: Any) -> None:
    data = fitted("cornac:TIGER", exam_split()).model.train_set
    features = data.item_feature.features
    items = [exam_split().dataset.item(item) for item in data.iid_map]
    assert features.shape[0] == len(items) and np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    first = items[0]
    alike = [
        n
        for n, item in enumerate(items)
        if n and (item.categories, item.brand) == (first.categories, first.brand)
    ]
    other = [
        n for n, item in enumerate(items) if item.categories != first.categories and item.brand != first.brand
    ]
    closeness = features @ features[0]
    assert closeness[alike].mean() > closeness[other].mean() + 0.2


def test_everything_random_follows_the_seed_and_the_generators_of_others_stay_as_they_were(
    cornac: Any,
) -> None:
    import torch

    declared = parts.declared(parts.MODELS, "cornac:Counts", "model")
    settings, split = declared.settings(noise=1.0), exam_split()

    def drawn() -> tuple[Any, ...]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    for start in (random.seed, np.random.seed, torch.manual_seed):
        start(5)
    expected = drawn()
    for start in (random.seed, np.random.seed, torch.manual_seed):
        start(5)
    fits = [declared.load()(split, settings, seed).model.base for seed in (0, 0, 1)]
    assert drawn() == expected
    assert np.array_equal(fits[0], fits[1]) and not np.allclose(fits[0], fits[2])


def test_what_is_held_out_changes_no_answer(cornac: Any) -> None:
    split = exam_split()
    requests, _ = split.retrieval_requests("test")
    for name in ("cornac:Counts", "cornac:MF", "cornac:After"):
        answers = [
            fitted(name, one).recommend(requests, 5) for one in (split, replace_held_out(split, seed=1))
        ]
        assert answers[0] == answers[1], name


@pytest.fixture(autouse=True)
def _no_pending_stand_in() -> Iterator[None]:
    yield
    cornac_models.cornac_model.cache_clear()
