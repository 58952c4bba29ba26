"""Adjusted p-values: by hand, against scipy, and against the definition of the step procedures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shelftalk.evaluation.multiple_testing import benjamini_hochberg, holm

PS = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_holm_multiplies_the_smallest_most_and_keeps_the_order() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_benjamini_hochberg_by_hand() -> None:
    # sorted .01 .03 .04: 3 x .01, 3 x .03 / 2 = .045, 3 x .04 / 3 = .04, and none above a later one
    assert benjamini_hochberg([0.04, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])
    assert benjamini_hochberg([]) == []


@given(PS)
def test_benjamini_hochberg_is_that_of_scipy(ps: list[float]) -> None:
    assert benjamini_hochberg(ps) == pytest.approx(stats.false_discovery_control(ps).tolist())


@given(PS, st.sampled_from([0.01, 0.05, 0.2, 0.5]))
def test_holm_rejects_what_stepping_down_one_by_one_rejects(ps: list[float], level: float) -> None:
    left, rejected = sorted(range(len(ps)), key=ps.__getitem__), set()
    while left and ps[left[0]] * len(left) <= level:
        rejected.add(left.pop(0))
    adjusted = holm(ps)
    assert {n for n, p in enumerate(adjusted) if p <= level} == rejected


@given(PS)
def test_an_adjusted_p_is_never_below_the_plain_one_and_holm_never_below_benjamini_hochberg(
    ps: list[float],
) -> None:
    strict, lenient = np.array(holm(ps)), np.array(benjamini_hochberg(ps))
    assert (strict >= lenient - 1e-15).all() and (lenient >= np.array(ps) - 1e-15).all()
    assert (strict <= 1).all()
