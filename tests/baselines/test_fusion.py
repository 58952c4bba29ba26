"""fusion: its scores and its choice of weights against both worked out one request at a time."""

from __future__ import annotations

import numpy as np
import pytest

from shelftalk.baselines.fusion import Fusion, FusionSettings, fuse
from shelftalk.baselines.item_knn import ItemKnnSettings, fit_item_knn
from shelftalk.baselines.popularity import fit_popularity
from shelftalk.baselines.slist import SlistSettings, fit_slist
from shelftalk.baselines.validation import validation_sample
from shelftalk.data.splitting import Split
from shelftalk.errors import SettingsError, UnknownPart
from shelftalk.experiment import load_experiment
from shelftalk.pipeline.fusion import fit_fusion
from shelftalk.settings import Settings
from shelftalk.testing.exams import RankerExam, RecommenderExam, exam_split

SLIST = SlistSettings(l2=(3.0,), alpha=(0.3,), source_decay=(0.8,), target_decay=(0.5,), history_decay=(0.7,))
KNN = ItemKnnSettings(text_weight=(0.3,), decay=(0.7,), max_history=(5,))
TWO = FusionSettings(
    settings={"slist": SLIST.model_dump(mode="json"), "item_knn": KNN.model_dump(mode="json")}
)


class TestFusion(RecommenderExam, RankerExam):
    def build(self, split: Split) -> Fusion:
        return fit_fusion(split, TWO.model_copy(update={"weights": ((0.4, 0.6),)}), seed=0)


def members(split: Split) -> list:
    return [fit_item_knn(split, KNN, 0), fit_slist(split, SLIST, 0)]


def scores_by_hand(models: list, weights: tuple[float, ...], request) -> np.ndarray:
    total = 0.0
    for model, weight in zip(models, weights, strict=True):
        scores = model.scores([request])[0].astype(float)
        total = total + weight * np.log(scores + 1e-3 * (scores.max() or 1.0))
    return total


def test_scores_are_the_weighted_mean_of_the_logarithms():
    split = exam_split()
    settings = TWO.model_copy(update={"weights": ((0.3, 0.7),)})
    model, requests = fit_fusion(split, settings, 0), split.retrieval_requests("test")[0][:7]
    expected = [scores_by_hand(members(split), (0.3, 0.7), request) for request in requests]
    assert model.item_scores(requests) == pytest.approx(np.array(expected), abs=1e-4)
    above_zero = model.scores(requests)
    assert np.log(above_zero) == pytest.approx(expected - np.max(expected, 1, keepdims=True), abs=1e-4)


def test_the_chosen_weights_are_those_of_the_best_validation_ndcg():
    split = exam_split()
    model, by_hand = fit_fusion(split, TWO, 0), members(split)
    requests, truths = validation_sample(split, 5000, 0, "fusion")
    qualities = {}
    for tenth in range(11):
        weights, gains = (tenth / 10, 1 - tenth / 10), []
        for request, truth in zip(requests, truths, strict=True):
            scores = scores_by_hand(by_hand, weights, request)
            scores[[split.dataset.row_of[item] for item in request.history]] = -np.inf
            target = scores[split.dataset.row_of[truth]]
            rank = 1 + np.sum(scores > target + 1e-9)
            gains.append(1 / np.log2(rank + 1) if rank <= 10 else 0.0)
        qualities[weights] = np.mean(gains)
    assert model.choice.tried == 11
    assert model.choice.value == pytest.approx(max(qualities.values()), abs=0.01)
    assert qualities[model.weights] == pytest.approx(max(qualities.values()), abs=0.01)
    assert max(qualities.values()) > min(qualities.values()) + 0.02  # there was something to choose
    assert model.selection() == [
        f"fusion: weight {model.weights[0]:g} of item_knn, weight {model.weights[1]:g} of slist "
        f"(validation ndcg@10 {model.choice.value:.4f}, the best of 11 settings)."
    ]


def test_three_models_have_all_weights_in_steps_that_sum_to_one():
    split = exam_split()
    models = [*members(split), fit_popularity(split, Settings(), 0)]
    three = FusionSettings(models=("item_knn", "slist", "popularity"), step=0.5)
    assert fuse(split, models, three, 0).choice.tried == 6


def test_models_have_the_settings_of_their_own_sections():
    experiment = load_experiment(None, {"baselines": {"item_knn": KNN.model_dump()}})
    assert experiment.settings_of("fusion").settings["item_knn"] == KNN.model_dump(mode="json")
    own = {"fusion": {"settings": {"item_knn": {"decay": [0.9]}}}}
    changed = load_experiment(None, {"baselines": own}).settings_of("fusion").settings
    assert changed["item_knn"] == {"decay": [0.9]} and changed["slist"] == SlistSettings().model_dump(
        mode="json"
    )


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"models": ["item_knn", "bias"]}, UnknownPart, "no baseline that scores every item"),
        ({"models": ["item_knn", "fusion"]}, UnknownPart, "no baseline that scores every item"),
        ({"models": ["item_knn"]}, SettingsError, "at least 2"),
        ({"weights": [[0.5, 0.4]]}, SettingsError, "a sum of 1"),
        ({"settings": {"slist": {"l3": [1.0]}}}, None, ""),
    ],
)
def test_what_cannot_be_combined_is_refused(settings, kind, message):
    if kind is None:  # found when the model is fitted
        with pytest.raises(SettingsError, match="l3"):
            fit_fusion(exam_split(), FusionSettings(**settings), 0)
        return
    with pytest.raises(kind, match=message):
        load_experiment(None, {"baselines": {"fusion": settings}})
