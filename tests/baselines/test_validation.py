"""How baselines choose: every combination once, the first of the best, and how many were tried."""

from __future__ import annotations

from math import nan

import pytest

from shelftalk.baselines.bias import BiasSettings
from shelftalk.baselines.popularity import fit_popularity
from shelftalk.baselines.validation import Choice, Chosen, choose, mean_ndcg, variants
from shelftalk.errors import NothingLeft
from shelftalk.testing.exams import exam_split

GRID = BiasSettings(item_damping=(1.0, 2.0), user_damping=(3.0, 4.0, 5.0))
NAMES = ("item_damping", "user_damping")


class Model(Chosen):
    name = "bias"

    def __init__(self, choice: Choice, notes: tuple[str, ...] = ()) -> None:
        self.choice, self.notes = choice, notes


def test_variants_are_all_combinations_those_of_the_first_name_slowest():
    pairs = [(one.item_damping, one.user_damping) for one in variants(GRID, *NAMES)]
    assert pairs == [((a,), (b,)) for a in (1.0, 2.0) for b in (3.0, 4.0, 5.0)]
    assert variants(GRID) == [GRID]


def test_the_most_ndcg_or_the_least_rmse_wins_and_of_equals_the_first():
    first, second, third, *_ = variants(GRID, *NAMES)
    assert choose("m", NAMES, {first: 0.1, second: 0.3, third: 0.3}, "ndcg@10").settings == second
    assert choose("m", NAMES, {first: 0.9, second: 0.8, third: 0.8}, "rmse").settings == second


def test_the_sentence_states_the_choice_and_how_many_settings_were_tried():
    qualities = dict.fromkeys(variants(GRID, *NAMES), 0.9)
    model = Model(choose("bias", NAMES, qualities, "rmse"), ("A note.",))
    chosen = "bias: item damping 1, user damping 3 (validation rmse 0.9000, the best of 6 settings)."
    assert model.selection() == ["A note.", chosen]
    assert model.describe() == {"item_damping": 1.0, "user_damping": 3.0, "validation rmse": 0.9}
    assert model.chosen_settings() == BiasSettings(item_damping=(1.0,), user_damping=(3.0,))
    (only,) = Model(choose("bias", NAMES, {GRID: 0.9}, "rmse")).selection()
    assert only.endswith("(validation rmse 0.9000, the only setting tried).")


def test_without_a_validation_part_one_setting_is_taken_as_given_and_several_are_refused():
    one, two, *_ = variants(GRID, *NAMES)
    model = Model(choose("bias", NAMES, {one: nan}, "rmse"))
    assert model.selection() == [
        "bias: item damping 1, user damping 3 (as given, not measured on validation)."
    ]
    assert model.describe() == {"item_damping": 1.0, "user_damping": 3.0}
    with pytest.raises(NothingLeft, match=r"2 settings; give each setting of \[baselines.bias\] one value"):
        choose("bias", NAMES, {one: nan, two: nan}, "rmse")


def test_the_mean_of_no_requests_is_no_number():
    model = fit_popularity(exam_split())
    value = mean_ndcg(model.catalogue, model.item_scores, [], [])
    assert value != value
