"""Figures and differences over seeds, by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from shelftalk.evaluation.significance import paired_difference
from shelftalk.studies.comparing.statistics import BOTH, SEEDS, USERS, figure, paired, paired_means


def table(ranks: list[float], items: str = "") -> pl.DataFrame:
    users = [f"u{n}" for n in range(len(ranks))]
    values = np.array(ranks)
    return pl.DataFrame(
        {
            "user": users,
            "item": [f"{items}{n}" for n in range(len(ranks))],
            "rank": values,
            "recall@10": (values <= 10).astype(float),
        }
    )


def test_a_figure_of_several_seeds_has_mean_and_deviation_and_no_interval_of_one_of_them() -> None:
    several = figure([0.1, 0.2, 0.6], (0.05, 0.15))
    assert several.mean == pytest.approx(0.3) and several.deviation == pytest.approx(0.2645751)
    assert (several.low, several.high) == (None, None)
    one = figure([0.1], (0.05, 0.15))
    assert (one.mean, one.deviation, one.low, one.high) == (0.1, None, 0.05, 0.15)


def test_one_seed_is_the_paired_difference_of_a_report() -> None:
    a, b = table([1, 50, 3, 4]), table([50, 50, 3, 50])
    one, expected = paired([a], [b], "retrieval", "recall@10", 300), paired_difference(a, b, "recall@10", 300)
    assert (one.value, one.low, one.high, one.p) == (expected.value, expected.low, expected.high, expected.p)
    assert one.covers == USERS and one.value == pytest.approx(0.5)


def test_seeds_with_other_items_of_the_same_users_cover_users_and_seeds() -> None:
    first = [table([1, 50, 3, 4], "x"), table([1, 2, 3, 50], "y"), table([1, 2, 3, 4], "z")]
    second = [table([50, 50, 3, 4], "x"), table([1, 2, 50, 50], "y"), table([1, 50, 3, 50], "z")]
    one = paired(first, second, "retrieval", "recall@10", 300)
    assert one.covers == BOTH and one.per_seed == pytest.approx((0.25, 0.25, 0.5))
    assert one.value == pytest.approx(1 / 3) and one.low < one.value < one.high


def test_seeds_with_other_users_cover_the_seeds_alone() -> None:
    first, second = [table([1, 50]), table([1, 2, 3])], [table([50, 50]), table([50, 2, 3])]
    one = paired(first, second, "retrieval", "recall@10", 300)
    # two values, 1/2 and 1/3: t of one degree of freedom is 12.706, the error half their distance
    assert one.covers == SEEDS and one.value == pytest.approx(5 / 12)
    assert (one.low, one.high) == pytest.approx((5 / 12 - 12.7062 / 12, 5 / 12 + 12.7062 / 12), abs=1e-4)


def test_seeds_that_agree_exactly_have_no_spread() -> None:
    tables = [table([1, 50]), table([1, 2, 3])]
    one = paired(tables, tables, "retrieval", "recall@10", 300)
    assert (one.value, one.low, one.high, one.p) == (0, 0, 0, 1)


def test_the_two_tables_of_a_seed_must_hold_the_same_requests() -> None:
    with pytest.raises(ValueError, match="same users and items"):
        paired([table([1, 2], "x")], [table([1, 2], "y")], "retrieval", "recall@10", 300)


def test_means_of_other_seeds_are_compared_request_by_request() -> None:
    first, second = [table([1, 50]), table([1, 1])], [table([50, 50])]
    one = paired_means(first, second, "recall@10", 300)
    assert one.value == pytest.approx((1 + 0.5) / 2 - 0) and one.covers == USERS
