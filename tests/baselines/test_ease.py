"""ease: the closed form against the regression that it solves, column by column."""

from __future__ import annotations

import numpy as np
import pytest

from shelftalk.baselines.ease import EaseSettings, fit_ease
from shelftalk.baselines.linear import LinearItems
from shelftalk.data.splitting import Split
from shelftalk.testing.exams import RankerExam, RecommenderExam, exam_split

FIXED = EaseSettings(l2=(5.0,))


class TestEase(RecommenderExam, RankerExam):
    def build(self, split: Split) -> LinearItems:
        return fit_ease(split, FIXED, seed=0)


def interactions(split: Split) -> np.ndarray:
    """[U, I] 1 where a user took an item in training."""
    taken = np.zeros((len(split.dataset.user_ids), len(split.dataset.items)))
    taken[split.training_users, split.training_items] = 1
    return taken


def test_every_column_is_the_ridge_regression_of_an_item_on_all_others():
    split = exam_split()
    model, taken = fit_ease(split, FIXED, seed=0), interactions(split)[:, np.flatnonzero(split.popularity)]
    for column in range(0, taken.shape[1], 7):
        others = np.delete(np.arange(taken.shape[1]), column)
        x = taken[:, others]
        ridge = np.linalg.solve(x.T @ x + 5 * np.eye(len(others)), x.T @ taken[:, column])
        assert model.weights[others, column] == pytest.approx(ridge, abs=1e-5)
        assert model.weights[column, column] == 0


def test_scores_are_the_history_times_the_weights_whatever_its_order():
    split = exam_split()
    model = fit_ease(split, FIXED, seed=0)
    requests = split.retrieval_requests("test")[0][:10]
    rows = {item: row for row, item in enumerate(split.dataset.item_ids)}
    weights = np.zeros((len(rows), len(rows)))
    weights[np.ix_(model.items, model.items)] = model.weights
    expected = np.stack([weights[[rows[item] for item in r.history]].sum(axis=0) for r in requests])
    assert model.item_scores(requests) == pytest.approx(expected, abs=1e-5)
