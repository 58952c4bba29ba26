"""svd_plus_plus: conjugate gradients against a dense solution, the objective, and unknown users."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shelftalk.baselines import svd_plus_plus
from shelftalk.baselines.matrix_factorisation import RatingTable
from shelftalk.baselines.ratings import Ratings, visible_ratings
from shelftalk.baselines.svd_plus_plus import (
    ImplicitFactors,
    SvdPlusPlus,
    SvdPlusPlusSettings,
    conjugate_gradients,
    factorise_with_taken,
    fit_svd_plus_plus,
    solve_taken,
    taken_rows,
)
from shelftalk.data.splitting import TRAIN, Split
from shelftalk.records import Request
from shelftalk.testing.exams import RaterExam, exam_split

FIXED = SvdPlusPlusSettings(factors=(3,), l2=(1.5,), bias_l2=(0.7,), iterations=6)


class TestSvdPlusPlus(RaterExam):
    def build(self, split: Split) -> SvdPlusPlus:
        return fit_svd_plus_plus(split, FIXED, seed=0)


def test_conjugate_gradients_solve_a_system_in_as_many_steps_as_it_has_unknowns():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(8, 6))
    matrix, target = rows.T @ rows + np.eye(6), rng.normal(size=6)
    found = conjugate_gradients(lambda x: matrix @ x, target, rng.normal(size=6), 6)
    assert found == pytest.approx(np.linalg.solve(matrix, target))
    solved = np.linalg.solve(matrix, target)
    assert conjugate_gradients(lambda x: matrix @ x, matrix @ solved, solved, 3) == pytest.approx(solved)


def test_y_is_the_dense_solution_of_its_regression(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(svd_plus_plus, "STEPS", 400)
    split, rng = exam_split(), np.random.default_rng(0)
    ratings, taken = visible_ratings(split), taken_rows(split)
    items, rest = rng.normal(size=(taken.shape[1], 2)), rng.normal(size=len(ratings.values))
    table = RatingTable(ratings, *taken.shape)
    found = solve_taken(np.zeros(items.shape), rest, items, ratings, table, taken, 0.9)
    # a rating's row of the regression: |N(u)|^-1/2 q_i at every item of N(u)
    dense = taken.toarray()
    design = np.stack(
        [np.outer(dense[u], items[i]).ravel() for u, i in zip(ratings.users, ratings.items, strict=True)]
    )
    expected = np.linalg.solve(design.T @ design + 0.9 * np.eye(design.shape[1]), design.T @ rest)
    assert found.ravel() == pytest.approx(expected, abs=1e-5)


def test_taken_are_all_training_items_rated_or_not_and_nothing_held_out():
    split = exam_split()
    taken = taken_rows(split).toarray()
    for user in range(0, taken.shape[0], 7):
        events = np.flatnonzero((split.event_user == user) & (split.event_part == TRAIN))
        expected = np.zeros(taken.shape[1])
        expected[split.dataset.event_item[events]] = len(events) ** -0.5
        assert taken[user] == pytest.approx(expected)
    unrated = (split.event_part == TRAIN) & np.isnan(split.visible_rating)
    assert unrated.any()


def objective(ratings: Ratings, factors: ImplicitFactors, split: Split) -> float:
    implied = taken_rows(split) @ factors.taken
    own = factors.users - implied
    total = 1.5 * float((own**2).sum() + (factors.items**2).sum() + (factors.taken**2).sum())
    total += 0.7 * float((factors.user_bias**2).sum() + (factors.item_bias**2).sum())
    for user, item, value in zip(ratings.users, ratings.items, ratings.values, strict=True):
        vector = own[user] + implied[user]
        estimate = ratings.mean + factors.user_bias[user] + factors.item_bias[item]
        total += float(value - estimate - vector @ factors.items[item]) ** 2
    return total


def fitted(**changes: Any) -> ImplicitFactors:
    split = exam_split()
    settings = FIXED.model_copy(update=changes)
    return factorise_with_taken(visible_ratings(split), taken_rows(split), settings, seed=0)


def test_every_iteration_lowers_the_objective():
    split = exam_split()
    ratings = visible_ratings(split)
    values = [objective(ratings, fitted(iterations=number), split) for number in (1, 2, 4, 8, 16)]
    assert values == sorted(values, reverse=True)


def test_an_unknown_user_with_the_same_history_gets_what_a_known_one_gets():
    split = exam_split()
    model, data = fit_svd_plus_plus(split, FIXED, seed=0), split.dataset
    for user in range(0, len(data.user_ids), 9):
        first, stop = split.training_bounds[user]
        history, ratings = split._history(int(first), int(stop))
        for item in data.item_ids[::31]:
            known, unknown = (Request(u, history, ratings, item=item) for u in (data.user_ids[user], "new"))
            assert model.rate([known]) == pytest.approx(model.rate([unknown]))


def test_items_without_a_rating_change_the_estimate_for_an_unknown_user():
    split = exam_split()
    model, items = fit_svd_plus_plus(split, FIXED, seed=0), split.dataset.item_ids
    popular = items[int(np.argmax(split.popularity))]
    with_history, without = model.rate(
        [Request("new", (popular,), item=items[5]), Request("new", (), item=items[5])]
    )
    assert with_history != without
