"""aligned+prior: the formula by hand, any prior by name, and every recommender's promises; no tensor is
needed for that."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from shelftalk.baselines.bias import BiasSettings, fit_bias, fit_global_mean
from shelftalk.baselines.item_knn import ItemKnnSettings, fit_item_knn
from shelftalk.baselines.popularity import Popularity, fit_popularity
from shelftalk.baselines.scored_catalogue import scored_catalogue
from shelftalk.data.splitting import Part, Split
from shelftalk.decoding.prior import AlignedWithPrior
from shelftalk.decoding.settings import PriorSettings
from shelftalk.errors import SettingsError, UnknownPart
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.log_linear import FLOOR
from shelftalk.pipeline.recommend_stage import selections
from shelftalk.pipeline.run import Run
from shelftalk.records import Filter, Ranking, Request
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.exams import RankerExam, RaterExam, RecommenderExam, exam_split

KNN = ItemKnnSettings(text_weight=(0.3,), decay=(0.7,), max_history=(3,))
BIAS = BiasSettings(item_damping=(2.0,), user_damping=(4.0,))


class LikeAModel:
    """What a prior needs of the language model, its log-probabilities a fixed function of the last item and
    the catalogue row."""

    def __init__(self, split: Split) -> None:
        self.catalogue = scored_catalogue(split)
        self.index = SimpleNamespace(item_ids=tuple(split.dataset.item_ids))
        self.row_of = self.catalogue.row_of
        self.settings = SimpleNamespace(ranking_prompt="retrieval")

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        last = np.array([self.row_of[request.history[-1]] if request.history else 0 for request in requests])
        logits = (np.arange(len(self.row_of)) * 37 + last[:, None] * 11) % 101 / 20.0
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def log_probs(
        self, requests: Sequence[Request], rows: Sequence[Sequence[int]], task: str = "retrieval"
    ) -> list[np.ndarray]:
        assert task == "retrieval"
        return [scores[np.array(row, int)] for scores, row in zip(self.scores(requests), rows, strict=True)]

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]:
        return self.catalogue.recommend(self.scores, requests, k)

    def without_words(self, requests: Sequence[Request]) -> list[Request]:
        return list(requests)

    def rate(self, requests: Sequence[Request]) -> list[float]:
        return [1.0 + self.row_of[request.item] % 9 / 2 for request in requests]


def combined(split: Split, *weights: float, prior: Any = None, rating_prior: Any = None) -> AlignedWithPrior:
    settings = PriorSettings(weights=weights, pool=20)
    prior, rating_prior = prior or fit_item_knn(split, KNN, seed=0), rating_prior or fit_bias(split, BIAS)
    model: Any = LikeAModel(split)
    return AlignedWithPrior(model, prior, rating_prior, settings).choose(
        split, ["retrieval", "ranking", "rating"], seed=0
    )


class TestWithPriorRecommends(RecommenderExam):
    def build(self, split: Split) -> AlignedWithPrior:
        return combined(split, 0.4)


class TestWithPriorRanks(RankerExam):
    def build(self, split: Split) -> AlignedWithPrior:
        return combined(split, 0.4)


class TestWithPriorRates(RaterExam):
    def build(self, split: Split) -> AlignedWithPrior:
        return combined(split, 0.4)


class TestOnlyThePrior(RecommenderExam):
    """Another prior than item_knn, on the whole weight."""

    def build(self, split: Split) -> AlignedWithPrior:
        return combined(split, 1.0, prior=fit_popularity(split))


def test_a_score_is_the_weighted_sum_of_both_log_probabilities_over_the_pool():
    split, wanted = exam_split(), Filter(categories=("tea", "boots"))
    request = replace(split.retrieval_requests("test")[0][0], filter=wanted)
    model = combined(split, 0.3)
    (ranking,) = model.recommend([request], 40)  # more than pass, so the pool is all of them
    ids = split.dataset.item_ids
    pool = [
        row
        for row, item in enumerate(ids)
        if split.dataset.item(item).categories in wanted.categories and item not in request.history
    ]
    knn = fit_item_knn(split, KNN, seed=0).scores([request])[0].astype(float)
    likely = np.exp(LikeAModel(split).scores([request])[0][pool])
    known = knn[pool] + FLOOR * knn[pool].max()
    expected = 0.7 * np.log(likely / likely.sum()) + 0.3 * np.log(known / known.sum())
    assert dict(zip(ranking.items, ranking.scores, strict=True)) == pytest.approx(
        {ids[row]: s for row, s in zip(pool, expected, strict=True)}
    )


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_weights_at_the_ends_are_either_side_alone(weight: float):
    split = exam_split()
    requests = [replace(r, filter=Filter(max_price=50.0)) for r in split.retrieval_requests("test")[0][:10]]
    alone: Any = (LikeAModel(split), fit_popularity(split))[int(weight)]
    answers = combined(split, weight, prior=fit_popularity(split)).recommend(requests, 10)
    for request, answer, other in zip(requests, answers, alone.recommend(requests, 10), strict=True):
        scores = alone.scores([request])[0]
        values = [
            [scores[split.dataset.row_of[item]] for item in ranking.items] for ranking in (answer, other)
        ]
        assert values[0] == pytest.approx(values[1])


def test_the_weight_with_the_best_validation_figure_is_chosen():
    split, weights = exam_split(), (0.0, 0.3, 0.7, 1.0)
    singles = [combined(split, weight).weights for weight in weights]
    chosen = combined(split, *weights).weights
    for task, better in (("retrieval", max), ("ranking", max), ("rating", min)):
        values = [single[task].value for single in singles]
        assert chosen[task] == singles[values.index(better(values))][task]
        assert len(set(values)) > 1


class Knowing(LikeAModel):
    """A model and a prior in one: what a part of the split holds out has by far the best score, and its
    true rating."""

    name = "knowing"

    def __init__(self, split: Split, part: Part, ranking_prompt: str = "retrieval") -> None:
        super().__init__(split)
        self.settings = SimpleNamespace(ranking_prompt=ranking_prompt)
        self.truth = {r.user: item for r, item in zip(*split.retrieval_requests(part), strict=True)}
        self.value = {(r.user, r.item): value for r, value in zip(*split.rating_requests(part), strict=True)}

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] probabilities."""
        known = np.array([self.row_of[self.truth[request.user]] for request in requests])
        shares = np.full((len(requests), len(self.row_of)), 0.1 / len(self.row_of))
        shares[np.arange(len(requests)), known] += 0.9
        return shares

    def log_probs(self, requests: Sequence[Request], rows: Any, task: str = "retrieval") -> list[np.ndarray]:
        return [np.log(scores[row]) for scores, row in zip(self.scores(requests), rows, strict=True)]

    def rate(self, requests: Sequence[Request]) -> list[float]:
        return [self.value.get((request.user, request.item), 1.0) for request in requests]


def test_the_weights_are_those_that_validation_prefers_where_the_test_part_prefers_others():
    split, tasks = exam_split(), ("retrieval", "ranking", "rating")
    on: dict[Part, Knowing] = {part: Knowing(split, part) for part in ("validation", "test")}
    for model, prior, best in ((on["validation"], on["test"], 0.0), (on["test"], on["validation"], 1.0)):
        both = AlignedWithPrior(cast(Any, model), prior, prior, PriorSettings(weights=(0.0, 1.0)))
        chosen = both.choose(split, tasks, seed=0).describe()
        assert [(weight.task, weight.weight, weight.metric, weight.value) for weight in chosen] == [
            ("retrieval", best, "ndcg@10", 1.0),
            ("ranking", best, "ndcg@10", 1.0),
            ("rating", best, "rmse", 0.0),
        ]


class PromptMatters(Knowing):
    """Scores the true items highest after the ranking prompt, and none of them after the other."""

    def log_probs(self, requests: Sequence[Request], rows: Any, task: str = "retrieval") -> list[np.ndarray]:
        known = super().log_probs(requests, rows)
        return known if task == "ranking" else [np.zeros_like(scores) for scores in known]


def test_candidates_are_scored_and_weighed_after_the_ranking_prompt_that_is_set():
    split, popular = exam_split(), fit_popularity(exam_split())
    requests, truths = split.ranking_requests("validation")
    for prompt, informed in (("ranking", True), ("retrieval", False)):
        model: Any = PromptMatters(split, "validation", prompt)
        both = AlignedWithPrior(model, popular, None, PriorSettings(weights=(0.0, 1.0)))
        both.choose(split, ["ranking"], seed=0)
        assert (both.weights["ranking"].weight == 0.0 and both.weights["ranking"].value == 1.0) == informed
        both.weights["ranking"] = replace(both.weights["ranking"], weight=0.0)
        firsts = [ranking.items[0] for ranking in both.rank(requests)]
        assert (firsts == truths) == informed


def test_the_names_told_are_those_of_the_priors():
    split = exam_split()
    others = combined(
        split,
        0.5,
        prior=replace(fit_popularity(split), name="bestsellers"),
        rating_prior=fit_global_mean(split),
    )
    assert [(c.task, c.prior) for c in others.describe()] == [
        ("retrieval", "bestsellers"), ("ranking", "bestsellers"), ("rating", "global_mean")
    ]  # fmt: skip


def test_a_model_that_scores_or_rates_nothing_is_refused_as_a_prior():
    split, model = exam_split(), LikeAModel(exam_split())
    settings = PriorSettings(model="my_shop.models:mean", rating_model="my_shop.models:best")
    with pytest.raises(
        SettingsError, match=re.escape('prior.model = "my_shop.models:mean" cannot be a prior')
    ):
        AlignedWithPrior(model, fit_global_mean(split), None, settings)
    with pytest.raises(
        SettingsError, match=re.escape('prior.rating_model = "my_shop.models:best" does not rate')
    ):
        AlignedWithPrior(model, fit_popularity(split), fit_popularity(split), settings)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_scores_of_which_no_probability_can_be_made_are_refused(wrong: float):
    @dataclass(frozen=True, eq=False)
    class Logits(Popularity):
        def scores(self, requests: Sequence[Request]) -> np.ndarray:
            return np.full((len(requests), len(self.counts)), wrong)

    popular = fit_popularity(exam_split())
    with pytest.raises(SettingsError, match='the prior "popularity" hold a number below 0 or none at all'):
        combined(exam_split(), 0.5, prior=Logits(popular.catalogue, popular.counts))


def run_parts(folder: Path, served: Sequence[str], **experiment: Any) -> Run:
    """A run whose trained model is the one above."""
    run = Run(
        RunFolder(folder),
        load_experiment(
            None, {"baselines": {"item_knn": KNN.model_dump(), "bias": BIAS.model_dump()}, **experiment}
        ),
    )
    run.__dict__.update(
        split=exam_split(), language_model=LikeAModel(exam_split()), trained_tasks=dict.fromkeys(served)
    )
    return run


def test_the_experiment_names_the_priors(tmp_path: Path):
    named = {"model": "popularity", "rating_model": "global_mean", "weights": [0.5]}
    run = run_parts(tmp_path, ["retrieval", "rating"], prior=named)
    model, sentences = run.model("aligned+prior"), selections(run, "aligned+prior")
    assert (model.prior.name, model.rating_prior.name) == ("popularity", "global_mean")
    assert sentences[0].startswith("aligned+prior, retrieval: weight 0.5 of popularity (validation ndcg@10 ")
    assert sentences[1].startswith("aligned+prior, rating: weight 0.5 of global_mean (validation rmse ")


def test_what_a_prior_chose_is_told_once(tmp_path: Path):
    weights = {"weights": [0.5]}
    run = run_parts(tmp_path, ["retrieval", "rating"], prior=weights, models=["aligned+prior"])
    sentences = selections(run, "aligned+prior")
    assert [sentence.split(":")[0] for sentence in sentences] == [
        "item_knn", "bias", "aligned+prior, retrieval", "aligned+prior, rating"
    ]  # fmt: skip
    sentences = selections(run_parts(tmp_path, ["retrieval"], prior=weights), "aligned+prior")
    assert [sentence.split(":")[0] for sentence in sentences] == ["aligned+prior, retrieval"]


@pytest.mark.parametrize(
    ("prior", "sentence"),
    [
        (
            {"model": "item_nn"},
            'prior.model names "item_nn", which is no model for that; did you mean "item_knn"?',
        ),
        (
            {"model": "bias"},
            'prior.model names "bias", which is no model for that',
        ),
        ({"model": "aligned+prior"}, 'prior.model names "aligned+prior"'),
        (
            {"rating_model": "popularity"},
            "known are: bias, global_mean, matrix_factorisation, svd_plus_plus.",
        ),
    ],
)
def test_a_built_in_model_that_cannot_be_a_prior_is_refused_before_anything_is_trained(
    prior: dict, sentence: str
):
    with pytest.raises(UnknownPart, match=re.escape(sentence)):
        load_experiment(None, {"prior": prior})
    assert Experiment(prior=PriorSettings(model="my_shop.models:best")).prior.model == "my_shop.models:best"
