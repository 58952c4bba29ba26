"""als: the objective over every cell, dense, and users solved from their histories."""

from __future__ import annotations

import numpy as np
import pytest

from shelftalk.baselines.als import Als, AlsSettings, fit_als
from shelftalk.data.splitting import Split
from shelftalk.records import Request
from shelftalk.testing.exams import RankerExam, RecommenderExam, exam_split

FIXED = AlsSettings(factors=(6,), l2=(2.0,), confidence=(4.0,), iterations=8)


class TestAls(RecommenderExam, RankerExam):
    def build(self, split: Split) -> Als:
        return fit_als(split, FIXED, seed=0)


def taken_in_training(split: Split) -> np.ndarray:
    taken = np.zeros((len(split.dataset.user_ids), len(split.dataset.items)))
    taken[split.training_users, split.training_items] = 1
    return taken


def weighted_ridge(items: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """[K]: argmin over x of sum c (p - x . y)^2 + l2 |x|^2, over every item."""
    weight = np.diag(1 + 4.0 * taken)
    return np.linalg.solve(items.T @ weight @ items + 2 * np.eye(items.shape[1]), items.T @ weight @ taken)


def objective(items: np.ndarray, taken: np.ndarray) -> float:
    """What is minimised, with the best users for these items."""
    users = np.stack([weighted_ridge(items, row) for row in taken])
    errors = ((1 + 4.0 * taken) * (taken - users @ items.T) ** 2).sum()
    return float(errors + 2 * (users**2).sum() + 2 * (items**2).sum())


def test_scores_are_those_of_the_weighted_regression_on_all_items():
    split = exam_split()
    model, requests = fit_als(split, FIXED, seed=0), split.retrieval_requests("test")[0][:10]
    for request, scores in zip(requests, model.item_scores(requests), strict=True):
        taken = np.isin(split.dataset.item_ids, request.history).astype(float)
        expected = model.factors @ weighted_ridge(model.factors, taken)
        assert scores == pytest.approx(expected, abs=1e-5)


def test_every_iteration_lowers_the_objective():
    split = exam_split()
    taken = taken_in_training(split)
    values = [
        objective(fit_als(split, FIXED.model_copy(update={"iterations": n}), seed=0).factors, taken)
        for n in (1, 2, 4, 8, 30)
    ]
    assert values == sorted(values, reverse=True) and values[0] > values[-1]


def test_in_the_end_no_item_can_be_moved_to_a_better_place():
    split = exam_split()
    items = fit_als(split, FIXED.model_copy(update={"iterations": 300}), seed=0).factors
    taken = taken_in_training(split)
    users = np.stack([weighted_ridge(items, row) for row in taken])
    for item in range(0, len(items), 9):
        assert items[item] == pytest.approx(weighted_ridge(users, taken[:, item]), abs=1e-3)


def test_an_item_that_nobody_took_and_an_empty_history_score_0():
    split = exam_split()
    model = fit_als(split, FIXED, seed=0)
    assert not model.item_scores([Request("u", ())]).any()
    requests = split.retrieval_requests("test")[0][:5]
    assert not model.item_scores(requests)[:, split.popularity == 0].any()


def test_an_item_that_the_history_repeats_is_taken_once():
    item, other = exam_split().dataset.item_ids[:2]
    model = fit_als(exam_split(), FIXED, seed=0)
    once, twice = model.item_scores([Request("u", (item, other)), Request("u", (item, other, item))])
    assert (once == twice).all()
