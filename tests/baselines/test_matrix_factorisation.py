"""matrix_factorisation: the objective goes down to a point where nothing moves, and unknown users are solved
as known ones are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shelftalk.baselines.bias import BiasSettings, fit_bias
from shelftalk.baselines.matrix_factorisation import (
    CHOSEN,
    Factors,
    MatrixFactorisation,
    MatrixFactorisationSettings,
    factorise,
    fit_matrix_factorisation,
)
from shelftalk.baselines.ratings import Ratings, visible_ratings
from shelftalk.baselines.validation import variants
from shelftalk.data.sources import read_dataset
from shelftalk.data.splitting import Split, SplitSettings, split_dataset, split_leave_one_out
from shelftalk.errors import NothingLeft
from shelftalk.experiment import load_experiment
from shelftalk.records import Request
from shelftalk.testing.exams import RaterExam, exam_split
from shelftalk.testing.worlds import untitled_world

FIXED = MatrixFactorisationSettings(factors=(3,), l2=(1.5,), bias_l2=(0.7,), iterations=6)


class TestMatrixFactorisation(RaterExam):
    def build(self, split: Split) -> MatrixFactorisation:
        return fit_matrix_factorisation(split, FIXED, seed=0)


def fitted(**changes: Any) -> tuple[Ratings, Factors]:
    split = exam_split()
    sizes = len(split.dataset.user_ids), len(split.dataset.items)
    ratings = visible_ratings(split)
    return ratings, factorise(ratings, sizes, FIXED.model_copy(update=changes), seed=0)


def objective(ratings: Ratings, factors: Factors) -> float:
    """By a loop over ratings."""
    total = 1.5 * float((factors.users**2).sum() + (factors.items**2).sum())
    total += 0.7 * float((factors.user_bias**2).sum() + (factors.item_bias**2).sum())
    for user, item, value in zip(ratings.users, ratings.items, ratings.values, strict=True):
        estimate = ratings.mean + factors.user_bias[user] + factors.item_bias[item]
        total += float(value - estimate - factors.users[user] @ factors.items[item]) ** 2
    return total


def test_every_iteration_lowers_the_objective():
    values = [objective(*fitted(iterations=number)) for number in (1, 2, 4, 8, 16)]
    assert values == sorted(values, reverse=True)


def test_in_the_end_no_small_change_lowers_the_objective():
    ratings, factors = fitted(iterations=400)
    least, rng = objective(ratings, factors), np.random.default_rng(0)
    for name in ("user_bias", "item_bias", "users", "items"):
        array = getattr(factors, name)
        for _ in range(5):
            change = 1e-3 * rng.normal(size=array.shape)
            array += change
            assert objective(ratings, factors) > least - 1e-6
            array -= change


def test_a_known_user_gets_what_an_unknown_one_with_the_same_ratings_gets():
    split = exam_split()
    model, data = fit_matrix_factorisation(split, FIXED, seed=0), split.dataset
    for user in range(0, len(data.user_ids), 9):
        events = np.flatnonzero((split.event_user == user) & ~np.isnan(split.visible_rating))
        history = tuple(data.item_ids[row] for row in data.event_item[events].tolist())
        ratings = tuple(data.event_rating[events].tolist())
        for item in data.item_ids[::31]:
            known, unknown = (Request(u, history, ratings, item=item) for u in (data.user_ids[user], "new"))
            assert model.rate([known]) == pytest.approx(model.rate([unknown]))


def test_an_unknown_user_without_ratings_gets_mean_and_item_bias():
    model = fit_matrix_factorisation(exam_split(), FIXED, seed=0)
    items = exam_split().dataset.item_ids
    (estimate,) = model.rate([Request("new", tuple(items[:3]), item=items[5])])
    assert estimate == pytest.approx(model.mean + model.factors.item_bias[5])


def test_the_best_on_validation_is_chosen_and_has_the_rmse_of_its_own_estimates():
    grid = FIXED.model_copy(update={"factors": (1, 4), "l2": (0.5, 5.0)})
    chosen = fit_matrix_factorisation(exam_split(), grid, seed=0)
    singles = [fit_matrix_factorisation(exam_split(), one, seed=0) for one in variants(grid, *CHOSEN)]
    assert chosen.describe() == min(singles, key=lambda model: model.choice.value).describe()
    assert chosen.choice.tried == 4
    requests, truths = exam_split().rating_requests("validation")
    errors = np.array(chosen.rate(requests)) - truths
    assert chosen.choice.value == pytest.approx(np.sqrt(np.mean(errors**2)))


def test_data_without_ratings_is_refused_with_a_remedy():
    split = split_leave_one_out(untitled_world(), SplitSettings(), seed=0)
    with pytest.raises(NothingLeft, match="leave the rating task out"):
        fit_matrix_factorisation(split, FIXED, seed=0)


@pytest.mark.slow
def test_the_bundled_films_are_rated_better_than_by_biases():
    experiment = load_experiment()
    data, _ = read_dataset(experiment.data, 0)
    split = split_dataset(data, experiment.split, 0, experiment.data.training_core)
    requests, truths = split.rating_requests("test")
    one = MatrixFactorisationSettings(factors=(16,), l2=(15.0,), bias_l2=(2.0,))
    models = fit_matrix_factorisation(split, one, seed=0), fit_bias(split, BiasSettings())
    rmse = [float(np.sqrt(np.mean((np.array(model.rate(requests)) - truths) ** 2))) for model in models]
    assert rmse == pytest.approx([0.8583, 0.8750], abs=0.001)
