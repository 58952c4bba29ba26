"""item_knn: the formula by hand, the choice on validation, and the figure known for Beauty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from shelftalk.baselines import scored_catalogue
from shelftalk.baselines.item_knn import ItemKnn, ItemKnnSettings, fit_item_knn
from shelftalk.baselines.popularity import fit_popularity
from shelftalk.data.dataset import make_dataset
from shelftalk.data.similarity import co_occurrence, text_vectors
from shelftalk.data.splitting import TEST, Split, SplitSettings, split_leave_one_out
from shelftalk.errors import UnknownItem
from shelftalk.records import Request
from shelftalk.testing.exams import RankerExam, RecommenderExam, exam_split
from shelftalk.testing.worlds import replace_held_out, untitled_world

BEAUTY = Path(__file__).resolve().parents[3] / "shared" / "data" / "beauty"
FIXED = ItemKnnSettings(text_weight=(0.3,), decay=(0.7,), max_history=(3,))


class TestItemKnnRecommends(RecommenderExam):
    def build(self, split: Split) -> ItemKnn:
        return fit_item_knn(split, FIXED, seed=0)


class TestItemKnnRanks(RankerExam):
    def build(self, split: Split) -> ItemKnn:
        return fit_item_knn(split, FIXED, seed=0)


def brute_force_scores(
    split: Split, request: Request, text_weight: float, decay: float, max_history: int
) -> np.ndarray:
    """[I] by the formula of the module, without a sparse product."""
    vectors = text_vectors(split.dataset.items).toarray()
    similarity = text_weight * (vectors @ vectors.T) + (1 - text_weight) * co_occurrence(split).toarray()
    scores = np.zeros(len(vectors))
    for age, item in enumerate(reversed(request.history)):
        if age < max_history:
            scores += decay**age * similarity[split.dataset.row_of[item]]
    return scores


@pytest.mark.parametrize(
    ("text_weight", "decay", "max_history"), [(0.3, 0.7, 3), (0.0, 1.0, 1), (1.0, 0.5, 20)]
)
def test_scores_are_those_of_the_formula(text_weight: float, decay: float, max_history: int):
    split = exam_split()
    requests = split.retrieval_requests("test")[0][:15]
    model = fit_item_knn(
        split, ItemKnnSettings(text_weight=(text_weight,), decay=(decay,), max_history=(max_history,)), seed=0
    )
    expected = np.stack(
        [brute_force_scores(split, request, text_weight, decay, max_history) for request in requests]
    )
    assert model.scores(requests) == pytest.approx(expected, abs=1e-5)
    assert model.scores(requests).dtype == np.float32


def test_ranking_reads_the_same_scores_as_retrieval():
    requests = exam_split().ranking_requests("test")[0][:10]
    model = fit_item_knn(exam_split(), FIXED, seed=0)
    row_of = exam_split().dataset.row_of
    for ranking, scores in zip(model.rank(requests), model.scores(requests), strict=True):
        assert ranking.scores == tuple(float(scores[row_of[item]]) for item in ranking.items)


def test_an_empty_history_gets_the_popular_items():
    requests = [Request("u", ())]
    (knn,) = fit_item_knn(exam_split(), FIXED, seed=0).recommend(requests, 20)
    (popular,) = fit_popularity(exam_split()).recommend(requests, 20)
    assert knn.items == popular.items and set(knn.scores) == {0.0}


def test_the_recipe_with_the_best_validation_ndcg_is_chosen():
    split = exam_split()
    grid = ItemKnnSettings(text_weight=(0.0, 0.4, 1.0), decay=(0.5, 0.9), max_history=(1, 5))
    chosen = fit_item_knn(split, grid, seed=0)
    singles = [
        fit_item_knn(split, ItemKnnSettings(text_weight=(w,), decay=(d,), max_history=(n,)), seed=0)
        for w in grid.text_weight
        for d in grid.decay
        for n in grid.max_history
    ]
    best = max(singles, key=lambda model: model.choice.value)
    assert chosen.describe() == best.describe()
    assert best.choice.value > min(model.choice.value for model in singles)


def test_the_validation_ndcg_is_that_of_its_own_recommendations():
    split = exam_split()
    model = fit_item_knn(split, FIXED, seed=0)
    requests, truths = split.retrieval_requests("validation")
    lists = [ranking.items for ranking in model.recommend(requests, 10)]
    gains = [
        1 / np.log2(items.index(truth) + 2) if truth in items else 0.0
        for items, truth in zip(lists, truths, strict=True)
    ]
    # ties: mean rank there, popularity here
    assert model.choice.value == pytest.approx(np.mean(gains), abs=0.02)


def test_the_choice_does_not_look_at_the_test_items():
    split, other = exam_split(), replace_held_out(exam_split(), seed=9)
    is_test = pl.Series(split.event_part == TEST)
    events = split.dataset.events
    mixed = events.with_columns(
        item_id=pl.when(is_test).then(other.dataset.events["item_id"]).otherwise(pl.col("item_id"))
    )
    untested = split_leave_one_out(make_dataset(split.dataset.items, mixed), SplitSettings(), seed=0)
    grid = ItemKnnSettings()
    assert fit_item_knn(split, grid, seed=0).describe() == fit_item_knn(untested, grid, seed=0).describe()


def test_scoring_in_small_batches_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    model = fit_item_knn(exam_split(), FIXED, seed=0)
    requests = exam_split().retrieval_requests("test")[0]
    at_once = model.recommend(requests, 10)
    monkeypatch.setattr(scored_catalogue, "CELLS", 3 * 120)
    assert model.recommend(requests, 10) == at_once


def test_a_catalogue_without_titles_or_any_text_is_recommended_from():
    world = untitled_world()
    bare = world.items.with_columns(brand=pl.lit(""), categories=pl.lit(""))
    for items in (world.items, bare):
        split = split_leave_one_out(make_dataset(items, world.events), SplitSettings(), seed=0)
        model = fit_item_knn(split, ItemKnnSettings(), seed=0)
        assert all(
            len(ranking.items) == 10 for ranking in model.recommend(split.retrieval_requests("test")[0], 10)
        )


def test_an_item_outside_the_catalogue_is_named():
    model = fit_item_knn(exam_split(), FIXED, seed=0)
    # further back than the recipe looks
    long = Request("u", ("nowhere", *exam_split().dataset.item_ids[:20]))
    with pytest.raises(UnknownItem, match='"nowhere" in the request of user "u"'):
        model.recommend([long], 5)


@pytest.mark.parametrize(
    "wrong", [{"text_weight": (1.5,)}, {"decay": (0.0,)}, {"max_history": (0,)}, {"decay": ()}]
)
def test_settings_out_of_range_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        ItemKnnSettings(**wrong)


@pytest.mark.slow
@pytest.mark.skipif(not BEAUTY.is_dir(), reason="the Beauty data is not beside this repository")
def test_beauty_reaches_the_figures_known_for_it():
    items = pl.read_parquet(BEAUTY / "items.parquet")
    events = pl.read_parquet(BEAUTY / "interactions.parquet").with_columns(pl.col("user_id").cast(pl.String))
    split = split_leave_one_out(make_dataset(items, events), SplitSettings(), seed=0)
    fixed, chosen = fit_item_knn(split, FIXED, seed=0), fit_item_knn(split, ItemKnnSettings(), seed=0)
    requests, truths = split.retrieval_requests("test")

    def recall_and_ndcg(model: ItemKnn) -> tuple[float, float]:
        lists = [ranking.items for ranking in model.recommend(requests, 10)]
        ranks = np.array(
            [
                row.index(truth) + 1 if truth in row else np.inf
                for row, truth in zip(lists, truths, strict=True)
            ]
        )
        return float((ranks <= 10).mean()), float(np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean())

    assert recall_and_ndcg(fixed) == pytest.approx((0.0934, 0.0554), abs=0.0005)
    assert recall_and_ndcg(chosen)[0] == pytest.approx(0.0934, abs=0.003)
