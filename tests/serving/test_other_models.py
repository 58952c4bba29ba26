"""Models that are no language model alone, over a catalogue that changes: item_knn, and aligned+prior."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shelftalk.baselines.bias import BiasSettings, fit_bias
from shelftalk.baselines.item_knn import ItemKnnSettings, fit_item_knn
from shelftalk.baselines.popularity import fit_popularity
from shelftalk.baselines.svd_plus_plus import SvdPlusPlusSettings, fit_svd_plus_plus
from shelftalk.data.text_space import TextSpace
from shelftalk.decoding.prior import AlignedWithPrior, ChosenWeight
from shelftalk.decoding.settings import PriorSettings
from shelftalk.errors import SettingsError, UnknownItem
from shelftalk.indexing import atomic, titles
from shelftalk.records import Filter, Item, Request
from shelftalk.serving.answering import AnsweringModel, Asked, NotOffered, TwoStage, answering
from shelftalk.serving.live_catalogue import text_of
from shelftalk.serving.live_scores import LiveRatings
from shelftalk.serving.store import StoredItem
from shelftalk.testing.exams import exam_split
from tests.decoding.test_language_model import untrained
from tests.serving.test_live_model import SMALL

NEW = Item("new", "Amber lamps No. 9", "Halden", "lamps", 12.5)
KNN = ItemKnnSettings(text_weight=(0.3,), decay=(0.7,), max_history=(5,))


def knn() -> Any:
    return fit_item_knn(exam_split(), KNN, 0)


def combined() -> AnsweringModel:
    split = exam_split()
    weights = {task: ChosenWeight(task, 0.5, "ndcg@10", 0.1, "item_knn") for task in ("retrieval", "ranking")}
    model = untrained(split, titles.build(split, SMALL, 0))
    prior = AlignedWithPrior(model, knn(), None, PriorSettings(pool=20), weights)
    return answering(prior, split.dataset.items)


def alone() -> AnsweringModel:
    return answering(knn(), exam_split().dataset.items)


@pytest.mark.parametrize("make", [combined, alone], ids=["aligned+prior", "item_knn"])
def test_nothing_changes_where_nothing_changed(make: Any) -> None:
    requests, _ = exam_split().retrieval_requests("test")
    changing = make()
    split = exam_split()
    weights = {"retrieval": ChosenWeight("retrieval", 0.5, "ndcg@10", 0.1, "item_knn")}
    original = (
        AlignedWithPrior(
            untrained(split, titles.build(split, SMALL, 0)), knn(), None, PriorSettings(pool=20), weights
        )
        if make is combined
        else knn()
    )
    asked = [Asked(request) for request in requests[:8]]
    answers = changing.answer("recommend", asked)
    expected = original.recommend(requests[:8], 10)
    assert [answer.items for answer in answers] == [answer.items for answer in expected]


@pytest.mark.parametrize("make", [combined, alone], ids=["aligned+prior", "item_knn"])
def test_an_item_joins_is_hidden_and_leaves(make: Any) -> None:
    changing = make()
    history = tuple(exam_split().dataset.item_ids[:3])

    def come_back(*items: str) -> set[str]:
        request = Request("", history, filter=Filter(only=items))
        return set(changing.answer("recommend", [Asked(request, 5)])[0].items)

    other = exam_split().dataset.item_ids[7]
    assert changing.refresh([StoredItem(NEW)], 0.0) == []
    assert come_back("new", other) == {"new", other}
    (ranking,) = changing.answer("rank", [Asked(Request("", (*history, "new"), candidates=("new", other)))])
    assert set(ranking.items) == {"new", other}
    changing.refresh([StoredItem(NEW, hidden=True)], 1.0)
    assert come_back("new", other) == {other}
    changing.refresh([StoredItem(Item("new"), removed=True)], 2.0)
    with pytest.raises(UnknownItem):
        come_back("new", other)
    reasons = changing.answer("why", [Asked(Request("", history, item=other))])[0]
    assert [one.entry for one in reasons.contributions] == list(history)


def two_stages(candidates: int) -> TwoStage:
    return TwoStage(combined(), alone(), candidates)


@pytest.mark.parametrize(("candidates", "k"), [(20, 10), (3, 5)])
def test_what_the_retriever_finds_comes_in_the_order_of_the_ranker(candidates: int, k: int) -> None:
    requests = exam_split().retrieval_requests("test")[0][:6]
    model, first, second = two_stages(candidates), alone(), combined()
    found = first.answer("recommend", [Asked(request, max(k, candidates)) for request in requests])
    lists = model.answer("recommend", [Asked(request, k) for request in requests])
    for request, retrieved, given in zip(requests, found, lists, strict=True):
        asked = Asked(replace(request, candidates=retrieved.items))
        (ranked,) = second.answer("rank", [asked])
        assert given.items == ranked.items[:k] and len(given.items) == k
        assert given.scores == pytest.approx(ranked.scores[:k], abs=1e-5)
    assert any(given.items != retrieved.items[:k] for given, retrieved in zip(lists, found, strict=True))
    candidate = Request("", requests[0].history, candidates=exam_split().dataset.item_ids[:4])
    assert (
        model.answer("rank", [Asked(candidate)])[0].items
        == second.answer("rank", [Asked(candidate)])[0].items
    )
    assert model.tasks == second.tasks and model.name == "item_knn+aligned+prior"


def test_two_stages_follow_one_catalogue() -> None:
    model, history = two_stages(50), tuple(exam_split().dataset.item_ids[:3])
    everything = Asked(Request("", history, filter=Filter(only=("new",))), 5)
    assert model.refresh([StoredItem(NEW)], 0.0) == []
    assert model.answer("recommend", [everything])[0].items == ("new",)
    model.refresh([StoredItem(NEW, hidden=True)], 1.0)
    other = Asked(Request("", history), 5)
    nothing, some = model.answer("recommend", [everything, other])
    assert nothing.items == () and len(some.items) == 5 and "new" not in some.items


def test_models_of_two_catalogues_are_no_two_stages() -> None:
    other = answering(knn(), exam_split().dataset.items)
    other.refresh([StoredItem(NEW)], 0.0)
    with pytest.raises(SettingsError, match="have different catalogues; name a student"):
        TwoStage(combined(), other, 10)
    with pytest.raises(SettingsError, match="give --candidates 100"):
        two_stages(0)


def test_a_new_item_has_the_mean_score_of_the_most_similar_by_text() -> None:
    changing, model = alone(), knn()
    twin = exam_split().dataset.item(exam_split().dataset.item_ids[0])
    changing.refresh([StoredItem(Item("copy", twin.title, twin.brand, twin.categories))], 0.0)
    history = tuple(exam_split().dataset.item_ids[5:8])
    scores = changing.recommender.scores([Request("", history)])[0]
    trained = model.scores([Request("", history)])[0]
    assert (scores[:-1] == trained).all() and trained.min() <= scores[-1] <= trained.max()


@pytest.mark.parametrize("name", ["bias", "svd_plus_plus"])
def test_a_rating_prior_reads_and_rates_what_joined_later(name: str) -> None:
    split = exam_split()
    settings = SvdPlusPlusSettings(factors=(3,), l2=(2.0,), bias_l2=(1.0,))
    rater = fit_bias(split, BiasSettings()) if name == "bias" else fit_svd_plus_plus(split, settings, 0)
    weights = {
        "retrieval": ChosenWeight("retrieval", 0.5, "ndcg@10", 0.1, "item_knn"),
        "rating": ChosenWeight("rating", 1.0, "rmse", 0.1, name),  # the prior alone
    }
    model = untrained(split, atomic.build(split, SMALL, 0))
    changing = answering(
        AlignedWithPrior(model, knn(), rater, PriorSettings(pool=20), weights), split.dataset.items
    )
    ids, twin = split.dataset.item_ids, split.dataset.item(split.dataset.item_ids[0])
    changing.refresh(
        [
            StoredItem(Item("copy", twin.title, twin.brand, twin.categories)),
            StoredItem(Item("odd", "zzyzx qwxyv")),
        ],
        0.0,
    )
    history = {"history": ids[5:8], "ratings": (5.0, 1.0, 4.0)}
    with_new = {"history": (*ids[5:7], "odd", ids[7]), "ratings": (5.0, 1.0, 2.0, 4.0)}
    asked = [Asked(Request("", **history, item=item)) for item in (ids[0], "copy", "odd")]
    rated, similar, spread = changing.answer("rate", asked)
    of_all = rater.rate([Request("", **history, item=item) for item in ids])
    assert rated == of_all[0] and min(of_all) <= similar <= max(of_all)
    rows, cosines = TextSpace(split.dataset.items).nearest(text_of(twin))
    assert similar == pytest.approx(np.array(of_all)[rows] @ cosines / cosines.sum())
    assert spread == pytest.approx(np.mean(of_all)) or len(ids) > LiveRatings.SPREAD
    assert changing.answer("rate", [Asked(Request("", **with_new, item=ids[0]))]) == [rated]
    with pytest.raises(UnknownItem):
        changing.answer("rate", [Asked(Request("", (), item="nowhere"))])


def test_what_a_model_does_not_offer_is_a_sentence() -> None:
    changing = alone()
    assert "rate" not in changing.tasks
    with pytest.raises(NotOffered, match="does not answer rate; it answers recommend"):
        changing.answer("rate", [Asked(Request("", (), item="x"))])
    with pytest.raises(SettingsError, match="name another model"):
        answering(object(), exam_split().dataset.items)
    assert answering(fit_popularity(exam_split()), exam_split().dataset.items).tasks[0] == "recommend"
