"""slist: the closed form against the objective that it minimises, worked out with rows written one by one."""

from __future__ import annotations

import numpy as np
import pytest

from shelftalk.baselines.ease import EaseSettings, fit_ease
from shelftalk.baselines.linear import LinearItems
from shelftalk.baselines.slist import SlistSettings, cuts, fit_slist
from shelftalk.data.splitting import Split
from shelftalk.testing.exams import RankerExam, RecommenderExam, exam_split

FIXED = SlistSettings(l2=(3.0,), alpha=(0.3,), source_decay=(0.8,), target_decay=(0.5,), history_decay=(0.7,))


class TestSlist(RecommenderExam, RankerExam):
    def build(self, split: Split) -> LinearItems:
        return fit_slist(split, FIXED, seed=0)


def rows_one_by_one(split: Split, source_decay: float, target_decay: float) -> tuple[np.ndarray, ...]:
    """X, S and T of the module's docstring."""
    size = len(split.dataset.items)
    x, s, t = [], [], []
    for first, stop in split.training_bounds.tolist():
        items = split.dataset.event_item[first:stop].tolist()
        x.append(np.bincount(items, minlength=size))
        for cut in range(1, len(items)):
            source, target = np.zeros(size), np.zeros(size)
            for age, item in enumerate(reversed(items[:cut])):
                source[item] = source_decay**age
            for delay, item in enumerate(items[cut:]):
                target[item] = target_decay**delay
            s.append(source)
            t.append(target)
    return np.array(x, float), np.array(s), np.array(t)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_every_column_minimises_the_objective_without_its_own_item(alpha: float):
    split = exam_split()
    model = fit_slist(split, FIXED.model_copy(update={"alpha": (alpha,)}), seed=0)
    trained = np.flatnonzero(split.popularity)
    x, s, t = (rows[:, trained] for rows in rows_one_by_one(split, 0.8, 0.5))
    for column in range(0, len(trained), 11):
        others = np.delete(np.arange(len(trained)), column)
        gram = alpha * x.T @ x + (1 - alpha) * s.T @ s + 3 * np.eye(len(trained))
        towards = alpha * x.T @ x[:, column] + (1 - alpha) * s.T @ t[:, column]
        expected = np.linalg.solve(gram[np.ix_(others, others)], towards[others])
        assert model.weights[others, column] == pytest.approx(expected, abs=1e-5)
        assert model.weights[column, column] == 0


def test_consistency_alone_is_ease():
    slist = fit_slist(exam_split(), FIXED.model_copy(update={"alpha": (1.0,)}), seed=0)
    ease = fit_ease(exam_split(), EaseSettings(l2=(3.0,)), seed=0)
    assert slist.weights == pytest.approx(ease.weights, abs=1e-5)


def test_cuts_of_three_items():
    source, target = cuts(3, 0.5, 0.1)
    assert source.tolist() == [[1, 0.5], [0, 1], [0, 0]]
    assert target == pytest.approx(np.array([[0, 0], [1, 0], [0.1, 1]]))
