"""Rating baselines: the formula by hand, unknown users, and only visible ratings."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl
import pytest

from shelftalk.baselines.bias import Bias, BiasSettings, GlobalMean, fit_bias, fit_global_mean
from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import NONE, TRAIN, VALIDATION, Split, SplitSettings, split_leave_one_out
from shelftalk.errors import NothingLeft, UnknownItem
from shelftalk.records import Request
from shelftalk.testing.exams import RaterExam, exam_split
from shelftalk.testing.worlds import untitled_world

FIXED = BiasSettings(item_damping=(2.0,), user_damping=(4.0,))


class TestGlobalMean(RaterExam):
    def build(self, split: Split) -> GlobalMean:
        return fit_global_mean(split)


class TestBias(RaterExam):
    def build(self, split: Split) -> Bias:
        return fit_bias(split, FIXED)


def hand_made_split() -> Split:
    """Visible ratings: u1 a 5, u1 b 3, u2 a 4; validation: u2 b. The last two events of each user
    have no rating."""
    rows = [("u1", "a", 5.0), ("u1", "b", 3.0), ("u2", "a", 4.0), ("u2", "b", 1.0)]
    rows += [(user, item, None) for user in ("u1", "u2") for item in "xy"]
    events = pl.DataFrame(
        rows, schema={"user_id": pl.String, "item_id": pl.String, "rating": pl.Float64}, orient="row"
    )
    events = events.with_columns(position=pl.int_range(pl.len()))
    world = make_dataset(pl.DataFrame({"item_id": list("abxyz")}), events)
    split = split_leave_one_out(world, SplitSettings(ranking_negatives=1), seed=0)
    part = {5.0: TRAIN, 3.0: TRAIN, 4.0: TRAIN, 1.0: VALIDATION}
    parts = [part.get(value, NONE) for value in split.dataset.event_rating.tolist()]
    return Split(split.dataset, split.event_part, np.array(parts, np.uint8), split.candidates)


def test_biases_are_those_of_the_formula():
    model = fit_bias(hand_made_split(), FIXED)
    # mu = 4; b_a = (1 + 0) / (2 + 2) = 0.25, b_b = -1 / (1 + 2) = -1/3
    assert model.mean == 4
    assert model.item_bias == pytest.approx({"a": 0.25, "b": -1 / 3, "x": 0, "y": 0, "z": 0})
    # b_u1 = ((5 - 4.25) + (3 - 4 + 1/3)) / (2 + 4), b_u2 = (4 - 4.25) / (1 + 4)
    assert model.user_bias == pytest.approx({"u1": (0.75 - 2 / 3) / 6, "u2": -0.05})
    assert model.rate([Request("u2", (), item="b")]) == pytest.approx([4 - 1 / 3 - 0.05])
    assert model.choice.value == pytest.approx(4 - 1 / 3 - 0.05 - 1)


def test_an_unknown_user_is_judged_by_the_ratings_in_the_history():
    model = fit_bias(hand_made_split(), FIXED)
    request = Request("new", ("a", "b", "x"), (3.0, None, 3.5), item="z")
    assert model.rate([request]) == pytest.approx([4 + ((3 - 4.25) + (3.5 - 4)) / (2 + 4)])
    assert model.rate([Request("new", ("a", "b"), item="z")]) == [4.0]


def test_estimates_stay_on_the_visible_scale():
    model = fit_bias(hand_made_split(), FIXED)
    low, high = (Request("new", ("x",) * 50, (value,) * 50, item="z") for value in (-100.0, 100.0))
    assert model.rate([low, high]) == [3.0, 5.0]


def test_the_damping_with_the_best_validation_rmse_is_chosen():
    grid = BiasSettings(item_damping=(0.5, 5.0, 50.0), user_damping=(0.5, 5.0, 50.0))
    pairs = product(grid.item_damping, grid.user_damping)
    singles = [
        fit_bias(exam_split(), BiasSettings(item_damping=(item,), user_damping=(user,)))
        for item, user in pairs
    ]
    best = min(singles, key=lambda model: model.choice.value)
    assert fit_bias(exam_split(), grid).describe() == best.describe()


def test_the_validation_rmse_is_that_of_its_own_estimates():
    model = fit_bias(exam_split(), FIXED)
    requests, truths = exam_split().rating_requests("validation")
    errors = np.array(model.rate(requests)) - truths
    assert model.choice.value == pytest.approx(np.sqrt(np.mean(errors**2)))


def test_the_biases_beat_the_mean():
    requests, truths = exam_split().rating_requests("test")
    models = fit_bias(exam_split(), BiasSettings()), fit_global_mean(exam_split())
    bias, mean = (np.sqrt(np.mean((np.array(model.rate(requests)) - truths) ** 2)) for model in models)
    assert bias < mean


def test_an_item_outside_the_catalogue_is_named():
    with pytest.raises(UnknownItem, match='"nowhere" in the request of user "u"'):
        fit_bias(exam_split(), FIXED).rate([Request("u", (), item="nowhere")])


def test_data_without_ratings_is_refused_with_a_remedy():
    split = split_leave_one_out(untitled_world(), SplitSettings(), seed=0)
    for fit in (fit_global_mean, lambda split: fit_bias(split, FIXED)):
        with pytest.raises(NothingLeft, match="leave the rating task out"):
            fit(split)
