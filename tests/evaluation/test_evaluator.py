"""The evaluator: answers are checked, ties take their mean rank, and every number comes back out
of the table."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelftalk.evaluation.evaluator import (
    InvalidAnswer,
    evaluate_ranking,
    evaluate_rating,
    evaluate_retrieval,
    mean_rank,
    summarise,
)
from shelftalk.evaluation.metrics import RANK_METRICS, metric_names
from shelftalk.records import Ranking, Request

CATALOGUE = [f"i{number}" for number in range(30)]
REQUEST = Request("u", ("i0", "i1"))
ANSWER = Ranking("u", tuple(CATALOGUE[2:22]), tuple(range(20, 0, -1)))


def test_a_retrieval_row_holds_the_position_in_the_list():
    requests = [REQUEST, replace(REQUEST, user="v")]
    frame = evaluate_retrieval([ANSWER, replace(ANSWER, user="v")], requests, ["i4", "i25"], CATALOGUE)
    assert frame.columns == ["user", "item", "rank", "history_length", *metric_names("retrieval")]
    assert frame["user"].to_list() == ["u", "v"] and frame["item"].to_list() == ["i4", "i25"]
    assert frame["rank"].to_list() == [3.0, None] and frame["rank"].dtype == pl.Float64
    assert frame["history_length"].to_list() == [2, 2]
    first, second = frame.rows(named=True)
    assert (first["recall@1"], first["recall@5"], first["ndcg@5"], first["mrr@20"]) == (
        0,
        1,
        0.5,
        pytest.approx(1 / 3),
    )
    assert {second[name] for name in metric_names("retrieval")} == {0.0}


WRONG = {
    "names an item twice": replace(ANSWER, items=("i2", "i2", *ANSWER.items[2:])),
    "not in the catalogue": replace(ANSWER, items=("elsewhere", *ANSWER.items[1:])),
    "which is in its history": replace(ANSWER, items=("i1", *ANSWER.items[1:])),
    "holds 19 items and not 20": replace(ANSWER, items=ANSWER.items[:19], scores=ANSWER.scores[:19]),
    "increase along the list": replace(ANSWER, scores=(*ANSWER.scores[:18], 1.0, 2.0)),
    "is not a number": replace(ANSWER, scores=(float("nan"), *ANSWER.scores[1:])),
    "keep the order": replace(ANSWER, user="v"),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_broken_retrieval_answer_is_refused(message: str):
    with pytest.raises(InvalidAnswer, match=message):
        evaluate_retrieval([WRONG[message]], [REQUEST], ["i4"], CATALOGUE)


def test_a_missing_answer_is_refused():
    with pytest.raises(InvalidAnswer, match="0 rankings for 1 requests"):
        evaluate_retrieval([], [REQUEST], ["i4"], CATALOGUE)


def test_a_single_score_that_is_no_number_is_refused():
    request = Request("u", tuple(CATALOGUE[1:]))
    with pytest.raises(InvalidAnswer, match="is not a number"):
        evaluate_retrieval([Ranking("u", ("i0",), (float("nan"),))], [request], ["i0"], CATALOGUE)


def test_a_list_may_be_short_where_no_more_is_left():
    request = Request("u", tuple(CATALOGUE[:25]))
    answer = Ranking("u", tuple(CATALOGUE[25:]), (5, 4, 3, 2, 1))
    assert evaluate_retrieval([answer], [request], ["i26"], CATALOGUE)["rank"].to_list() == [2.0]


def test_a_list_of_another_system_may_be_short_and_never_longer_than_asked():
    short = replace(ANSWER, items=ANSWER.items[:3], scores=ANSWER.scores[:3])
    ranks = evaluate_retrieval([short, short], [REQUEST] * 2, ["i4", "i9"], CATALOGUE, full=False)["rank"]
    assert ranks.to_list() == [3.0, None]
    longer = replace(ANSWER, items=(*ANSWER.items, "i25"), scores=(*ANSWER.scores, 0))
    with pytest.raises(InvalidAnswer, match="holds 21 items and not 20"):
        evaluate_retrieval([longer], [REQUEST], ["i4"], CATALOGUE, full=False)


def test_lists_too_short_for_the_metrics_are_refused():
    with pytest.raises(ValueError, match="lists of 20, not of 10"):
        evaluate_retrieval([ANSWER], [REQUEST], ["i4"], CATALOGUE, k=10)


def test_equal_candidates_share_their_mean_rank():
    request = Request("u", (), candidates=("a", "b", "c", "d"))
    frame = evaluate_ranking([Ranking("u", ("a", "b", "c", "d"), (2, 1, 1, 1))], [request], ["b"])
    assert frame["rank"].to_list() == [3.0]
    assert frame.select("hr@1", "hr@5", "ndcg@5").row(0) == (0, 1, 0.5)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.data())
def test_ranks_are_the_mean_over_all_orders_of_equal_scores(scores: list[int], data: st.DataObject):
    truth = data.draw(st.integers(0, len(scores) - 1))
    orders = [
        o
        for o in permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in zip(o, o[1:], strict=False))
    ]
    shown = data.draw(st.sampled_from(orders))
    ranking = Ranking("u", tuple(f"i{item}" for item in shown), tuple(float(scores[item]) for item in shown))
    request = Request("u", (), candidates=tuple(f"i{item}" for item in range(len(scores))))
    frame = evaluate_ranking([ranking], [request], [f"i{truth}"])
    assert frame["rank"][0] == pytest.approx(np.mean([order.index(truth) + 1 for order in orders]))
    assert frame["rank"][0] == mean_rank(ranking, f"i{truth}")


@pytest.mark.parametrize("items", [("a",), ("a", "c"), ("a", "b", "c"), ("a", "a")])
def test_a_ranking_of_anything_but_the_candidates_is_refused(items: tuple[str, ...]):
    request = Request("u", (), candidates=("a", "b"))
    with pytest.raises(InvalidAnswer, match="not made of its candidates"):
        evaluate_ranking([Ranking("u", items, tuple(range(len(items), 0, -1)))], [request], ["a"])


def test_a_truth_outside_the_candidates_is_refused():
    with pytest.raises(ValueError, match='do not hold the relevant item "z"'):
        evaluate_ranking([Ranking("u", ("a",), (1,))], [Request("u", (), candidates=("a",))], ["z"])


def test_a_rating_row_holds_both_errors():
    frame = evaluate_rating(
        [3.5, 4.0], [Request("u", ("a",), item="b"), Request("u", (), item="c")], [4.0, 2.0]
    )
    assert frame.columns == [
        "user",
        "item",
        "truth",
        "estimate",
        "history_length",
        "squared_error",
        "absolute_error",
    ]
    assert frame.rows() == [("u", "b", 4.0, 3.5, 1, 0.25, 0.5), ("u", "c", 2.0, 4.0, 0, 4.0, 2.0)]
    assert summarise(frame, "rating") == pytest.approx({"rmse": np.sqrt(4.25 / 2), "mae": 1.25})


@pytest.mark.parametrize("estimate", [float("nan"), float("inf")])
def test_an_estimate_that_is_no_number_is_refused(estimate: float):
    with pytest.raises(InvalidAnswer, match='user "u" and item "b"'):
        evaluate_rating([estimate], [Request("u", (), item="b")], [4.0])


def test_estimates_that_do_not_match_the_requests_are_refused():
    with pytest.raises(InvalidAnswer, match="2 estimates for 1 requests"):
        evaluate_rating([1.0, 2.0], [Request("u", (), item="b")], [4.0])


@pytest.mark.parametrize("task", ["retrieval", "ranking"])
def test_the_summary_of_a_saved_table_is_the_mean_of_its_columns(task: str, tmp_path: Path):
    requests = [Request(f"u{n}", ("i0",), candidates=tuple(CATALOGUE[1:])) for n in range(12)]
    length = 20 if task == "retrieval" else 29
    rankings = [
        Ranking(r.user, tuple(CATALOGUE[1 : 1 + length]), tuple(range(length, 0, -1))) for r in requests
    ]
    truths = [CATALOGUE[1 + 2 * n] for n in range(12)]
    evaluate = partial(evaluate_retrieval, catalogue=CATALOGUE) if task == "retrieval" else evaluate_ranking
    frame = evaluate(rankings, requests, truths)
    frame.write_parquet(tmp_path / "rows.parquet")
    summary = summarise(pl.read_parquet(tmp_path / "rows.parquet"), task)
    assert list(summary) == list(RANK_METRICS[task])
    assert summary == pytest.approx({name: frame[name].mean() for name in summary})


def test_an_empty_table_has_no_summary():
    with pytest.raises(ValueError, match="no rows"):
        summarise(evaluate_rating([], [], []), "rating")
