"""A request is checked where it is made, so that every recommender reads the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shelftalk.errors import BadRequest, ShelftalkError
from shelftalk.records import Filter, Request


def test_nan_among_the_ratings_is_an_unknown_rating():
    gaps = (float("nan"), np.float32("nan"), None)
    assert Request("u", ("a", "b", "c"), ratings=gaps).ratings == (None, None, None)
    assert Request("u", ("a", "b"), ratings=(np.float64(4.5), 3)).ratings == (4.5, 3.0)


@pytest.mark.parametrize("rating", [float("inf"), float("-inf"), "5", b"5", [5]])
def test_a_rating_that_is_no_finite_number_is_refused(rating: Any):
    with pytest.raises(
        BadRequest,
        match=r"request of user 'u': the rating .* is no finite number; give .*, or None where unknown\.$",
    ):
        Request("u", ("a",), ratings=(rating,))
    assert Request("u", ("a",), ratings=(None,)).ratings == (None,)  # the remedy


@pytest.mark.parametrize("ratings", [(4.0,), (4.0, 3.0, 2.0)])
def test_ratings_are_as_many_as_the_history_or_none(ratings: tuple[float, ...]):
    with pytest.raises(
        BadRequest, match="ratings for 2 items; give one for each item of the history, None where unknown"
    ):
        Request("u", ("a", "b"), ratings=ratings)
    assert Request("u", ("a", "b")).ratings == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"history": (7,)},
        {"candidates": (7,)},
        {"excluded": (7,)},
        {"item": 7},
        {"user": 7},
        {"history": (None,)},
    ],
)
def test_an_id_that_is_no_text_is_refused_and_not_taken_for_an_unknown_id(wrong: dict[str, Any]):
    with pytest.raises(BadRequest, match='is no text; ids are texts: give "'):
        Request(**{"user": "u", "history": (), **wrong})


@pytest.mark.parametrize(
    "wrong", [{"history": None}, {"history": "ab"}, {"ratings": 4.0}, {"candidates": 5}, {"filter": "tea"}]
)
def test_what_is_no_sequence_and_no_filter_is_refused(wrong: dict[str, Any]):
    with pytest.raises(BadRequest, match=r"request of user 'u': .*; give a "):
        Request(**{"user": "u", "history": (), **wrong})


def test_any_sequence_of_ids_becomes_a_tuple():
    made = Request("u", ["a", "b"], ratings=np.array([1.0, np.nan]), candidates=np.array(["c"]))
    assert made == Request("u", ("a", "b"), ratings=(1.0, None), candidates=("c",))


def test_what_is_refused_is_one_of_the_family_and_a_value_error():
    assert issubclass(BadRequest, ShelftalkError) and issubclass(BadRequest, ValueError)
    with pytest.raises(BadRequest):
        Filter(min_price=float("nan"))
